/** What a request costs in simulated milliseconds. The numbers describe one engine on one GPU. */
export interface CostProfile {
  /** Milliseconds from admission to the first token of a prompt that is wholly cached. */
  readonly ttftBaseMs: number
  /** Milliseconds of prefill per prompt token that is not cached; prompts are prefilled in turn. */
  readonly prefillMsPerToken: number
  /** Milliseconds between two tokens of one request that runs alone. */
  readonly itlBaseMs: number
  /** Milliseconds each running request adds to every other's inter-token time. */
  readonly itlMsPerRunning: number
  /** Write every frame by itself even where several are due at once. */
  readonly chunked: boolean
}

/** Roughly a 14B model on two data-centre GPUs: 10k prompt tokens/s, 50 tokens/s alone. */
export const DEFAULT_PROFILE: CostProfile = {
  ttftBaseMs: 30,
  prefillMsPerToken: 0.1,
  itlBaseMs: 18,
  itlMsPerRunning: 0.2,
  chunked: false,
}

/** No delay at all: an answer is written whole, as fast as the process can. */
export const INSTANT_PROFILE: CostProfile = {
  ttftBaseMs: 0,
  prefillMsPerToken: 0,
  itlBaseMs: 0,
  itlMsPerRunning: 0,
  chunked: false,
}

/** A profile from what an option may say. */
export const profileOf = (given: Partial<CostProfile> | 'instant' | undefined): CostProfile =>
  given === 'instant' ? INSTANT_PROFILE : { ...DEFAULT_PROFILE, ...given }

/** Milliseconds of prefill for the prompt tokens that were not cached. */
export const prefillMs = (profile: CostProfile, uncachedTokens: number): number =>
  profile.prefillMsPerToken * uncachedTokens

/**
 * Milliseconds between two tokens while `running` requests share the engine.
 * @example interTokenMs({ ...DEFAULT_PROFILE, itlBaseMs: 18, itlMsPerRunning: 0.2 }, 10) === 20
 */
export const interTokenMs = (profile: CostProfile, running: number): number =>
  profile.itlBaseMs + profile.itlMsPerRunning * running
