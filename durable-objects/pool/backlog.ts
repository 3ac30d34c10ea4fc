import { MovingRate, TokenRatio } from '../scheduling/moving-rate.ts'
import { PrefillPace, Recency } from '../scheduling/pace.ts'
import type { Settlement } from './contract.ts'
import { isCount } from './counts.ts'

/** What a request looks like before it runs, in tokens as the Worker reckons them. */
export interface Expected {
  readonly promptTokens: number
  /** Of these, those that are probably in the instance's prefix cache. */
  readonly hitTokens: number
  /** Of all its answers together. */
  readonly outputTokens: number
  /** That it asks for, all written side by side. Default 1. */
  readonly answers?: number
}

interface Share {
  /** Tokens of its prompt to prefill: corrected, without the cached ones. */
  readonly uncached: number
  /** What the Worker said the whole prompt is. */
  readonly estimate: number
  readonly hits: number
  /** Unix milliseconds. */
  readonly grantedAt: number
  /** Where the end of its prompt is in the virtual queue: tokens that went in since the beginning. */
  readonly end: number
  readonly output: number
  readonly answers: number
  /** When its prompt is presumably through; Unix milliseconds. */
  readonly decodesAt: number
}

/**
 * Assumed while an instance has not settled anything. Prefill slower than any: a backlog that is thought
 * to be done too early draws everything to one instance, one thought to be done too late harms nobody.
 */
const UNMEASURED_PREFILL_MS = 10
const UNMEASURED_DECODE_MS = 25

/** Tokens that a request which is still there has to come at least, or all it was expected to have. */
const OUTPUT_FLOOR = 16

/** Between two countings of every request, what answers have ahead is drawn on; milliseconds. */
const RECOUNT_MS = 1_000

/** More than any context; what a caller says beyond it is a mistake. */
const MAX_TOKENS = 10_000_000

/**
 * What one instance still has to do, in tokens, as time goes by: the figure that tells a 30k-token prompt
 * from a "hello". Nobody reports it while a request runs, so it is reckoned from what was granted and
 * from how fast this instance has been, and put right by every request that ends.
 *
 * *Prompts* go through one virtual queue, since an engine prefills them in turn: what is ahead shrinks by
 * one token per `prefillMsPerToken`. *Answers* shrink side by side, by one token per `msPerToken` each,
 * from the moment when their own prompt is through, down to a floor: who is still there is not done.
 */
export class Backlog {
  readonly #now: () => number
  readonly #ratio: TokenRatio
  readonly #shares = new Map<number, Share>()
  readonly #prefill = new PrefillPace()
  readonly #prefilled = new Recency()
  readonly #decode = new MovingRate(UNMEASURED_DECODE_MS)
  readonly #decoded = new Recency()
  /** What these two say, kept because it is read far more often than it changes. */
  #prefillPace: number | null = null
  #decodePace: number | null = null
  /** Uncached prompt tokens of all live requests: no more than that can be ahead. */
  #uncached = 0
  /** Tokens that went into the virtual queue since it was last empty of requests, and those that came out. */
  #entered = 0
  #left = 0
  #leftAt = 0
  /** At the last counting: tokens of answers to come, how many answers were being written, and the least there can be. */
  #output = 0
  #writing = 0
  #floor = 0
  #countedAt = Number.NEGATIVE_INFINITY

  /**
   * @param now   Unix milliseconds
   * @param ratio tokens to the Worker's estimate; one for all instances of a pool learns faster
   */
  constructor(now: () => number, ratio: TokenRatio = new TokenRatio()) {
    this.#now = now
    this.#ratio = ratio
  }

  /** Prompt tokens that are not prefilled yet, presumably. O(1). */
  get promptTokensAhead(): number {
    // Most instances, most of the time: read on every acquire, so not even the clock is asked.
    if (this.#left === this.#entered) return 0
    this.#advance()
    return this.#entered - this.#left
  }

  /** Tokens of answers to come, presumably. O(1) but for a counting once a second. */
  get outputTokensAhead(): number {
    if (this.#shares.size === 0) return 0
    const sinceMs = this.#now() - this.#countedAt
    if (!(sinceMs >= 0 && sinceMs < RECOUNT_MS)) return this.#recount()
    const written = (this.#writing * sinceMs) / this.#decodeMs
    return Math.max(this.#floor, this.#output - written)
  }

  /** Milliseconds of prefill per uncached token of prompt, a moving average; null without one of late. */
  get prefillMsPerToken(): number | null {
    const pace = this.#prefillPace
    return pace !== null && this.#prefilled.isRecent(this.#now()) ? pace : null
  }

  /** Milliseconds between two tokens of one answer, a moving average; null without one of late. */
  get msPerToken(): number | null {
    const pace = this.#decodePace
    return pace !== null && this.#decoded.isRecent(this.#now()) ? pace : null
  }

  /** A request is sent there. O(1). */
  grant(lease: number, { promptTokens, hitTokens, outputTokens, answers = 1 }: Expected): void {
    this.settle(lease, null)
    this.#advance()
    const estimate = tokensOf(promptTokens)
    const hits = Math.min(estimate, tokensOf(hitTokens))
    const uncached = Math.round((estimate - hits) * this.#ratio.value)
    this.#entered += uncached
    this.#uncached += uncached
    const queued = this.#entered - this.#left
    const output = tokensOf(outputTokens)
    const decodesAt = this.#leftAt + queued * this.#prefillMs
    const [end, grantedAt] = [this.#entered, this.#leftAt]
    const share = { uncached, estimate, hits, end, grantedAt, output, answers, decodesAt }
    this.#shares.set(lease, share)
    this.#output += output
    this.#floor += floorOf(share)
  }

  /**
   * A request has ended: what it had ahead is gone, and how it went is learnt from. Only the first time
   * counts. O(1).
   * @param settlement null where nobody could say
   */
  settle(lease: number, settlement: Partial<Settlement> | null): void {
    const share = this.#shares.get(lease)
    if (!share) return
    this.#advance()
    this.#shares.delete(lease)
    this.#uncached -= share.uncached
    if (settlement) this.#learn(share, settlement)
    if (this.#shares.size === 0) return this.#clear()

    this.#leaveQueue(share, isCount(settlement?.ttftMs))
    this.#output = Math.max(0, this.#output - this.#toWrite(share, this.#countedAt))
    if (this.#isWriting(share, this.#countedAt))
      this.#writing = Math.max(0, this.#writing - share.answers)
    this.#floor -= floorOf(share)
  }

  get #prefillMs(): number {
    return this.#prefillPace ?? UNMEASURED_PREFILL_MS
  }

  get #decodeMs(): number {
    return this.#decodePace ?? UNMEASURED_DECODE_MS
  }

  /** Moves the virtual queue on to now. A clock that was put back moves nothing. */
  #advance(): void {
    const now = this.#now()
    const done = Math.max(0, now - this.#leftAt) / this.#prefillMs
    this.#left = Math.min(this.#entered, this.#left + done)
    this.#leftAt = now
  }

  #leaveQueue({ uncached, end }: Share, answered: boolean): void {
    if (answered) {
      // Its prompt was through, and so was everything before it.
      this.#left = Math.max(this.#left, end)
      return
    }
    // Given up before it was through: what was left of it is left to nobody.
    const began = Math.max(this.#left, end - uncached)
    this.#left += Math.max(0, end - began)
    // That moved the queue on beyond prompts that are still there; never so far back that nobody's is.
    this.#left = Math.max(this.#left, this.#entered - this.#uncached)
  }

  /** Tokens of one request's answers that are to come at a moment. */
  #toWrite(share: Share, at: number): number {
    const written = (share.answers * Math.max(0, at - share.decodesAt)) / this.#decodeMs
    return Math.max(floorOf(share), share.output - written)
  }

  #isWriting(share: Share, at: number): boolean {
    return share.decodesAt <= at && this.#toWrite(share, at) > floorOf(share)
  }

  #recount(): number {
    const now = this.#now()
    this.#output = 0
    this.#writing = 0
    for (const share of this.#shares.values()) {
      this.#output += this.#toWrite(share, now)
      if (this.#isWriting(share, now)) this.#writing += share.answers
    }
    this.#countedAt = now
    return this.#output
  }

  #learn(share: Share, settlement: Partial<Settlement>): void {
    const { ttftMs, durationMs, promptTokens, completionTokens, cachedTokens, counted } = settlement
    const trusted = counted === 'reported' || counted === 'ids'
    const prompt = trusted && isCount(promptTokens) ? promptTokens : null
    if (prompt !== null) this.#ratio.learn(share.estimate, prompt)
    if (!isCount(ttftMs)) return

    const cached = isCount(cachedTokens) ? cachedTokens : share.hits * this.#ratio.value
    const own = prompt === null ? share.uncached : Math.max(0, prompt - cached)
    const now = this.#leftAt
    if (!this.#prefilled.isRecent(now)) this.#prefill.forget()
    this.#prefill.learn(share.grantedAt, ttftMs, own)
    this.#prefilled.mark(now)
    this.#prefillPace = this.#prefill.msPerToken

    const tokens = trusted && isCount(completionTokens) ? completionTokens / share.answers : 0
    if (tokens < 2 || !isCount(durationMs) || durationMs <= ttftMs) return
    if (!this.#decoded.isRecent(now)) this.#decode.forget()
    this.#decode.add(durationMs - ttftMs, tokens - 1)
    this.#decoded.mark(now)
    this.#decodePace = this.#decode.value
  }

  #clear(): void {
    this.#uncached = 0
    this.#entered = 0
    this.#left = 0
    this.#output = 0
    this.#writing = 0
    this.#floor = 0
  }
}

const floorOf = ({ output }: Share): number => Math.min(output, OUTPUT_FLOOR)

/** Whole, so that sums of them come out even; nothing, where it is no number. */
const tokensOf = (value: number): number =>
  isCount(value) ? Math.min(MAX_TOKENS, Math.round(value)) : 0
