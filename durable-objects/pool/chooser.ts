import type { PoolConfig } from '../fleet/snapshot.ts'
import { AFFINITY_CAPACITY, AffinityIndex } from '../scheduling/affinity.ts'
import { blocksOf, tokensThrough } from '../scheduling/blocks.ts'
import { heldTokens } from '../scheduling/held.ts'
import { slotsInEffect } from '../scheduling/effect.ts'
import { decide, type Choice, type Verdict } from '../scheduling/picker.ts'
import { keepsTurns, policyOf } from '../scheduling/policies.ts'
import { Turns } from '../scheduling/turns.ts'
import type { Ask, Candidate, Policy } from '../scheduling/types.ts'
import type { Work } from './contract.ts'
import type { Ledger, Seat } from './ledger.ts'
import type { Vitals } from './vitals.ts'

export interface ChooserDeps {
  readonly ledger: Ledger
  readonly vitals: Vitals
  /** In [0, 1). */
  readonly random: () => number
}

/** A choice that was made. */
export type Picked = Extract<Choice, { kind: 'picked' }>

/** Tokens of the prompt that the one chosen probably has in its cache. */
export const expectedHitTokens = ({ field, id }: Picked): number =>
  field.find((candidate) => candidate.id === id)?.prefixTokens ?? 0

/** A request that wants a slot, as far as the choice goes. */
export interface Wish {
  readonly work: Work
  /** Instances that have failed it already. */
  readonly avoid: readonly string[]
  /** Tokens its answer is taken for. */
  readonly outputTokens: number
}

const NO_MATCH: ReadonlyMap<string, number> = new Map()

/**
 * Puts together what the scheduler sees, one snapshot for each request: the ledger's slots and backlogs,
 * health, the prefix index, whose turn it is; and has `decide` choose.
 */
export class Chooser {
  affinity = new AffinityIndex({ capacity: AFFINITY_CAPACITY })
  readonly #deps: ChooserDeps
  readonly #turns = new Turns()
  #policy: Policy = policyOf({ policy: 'adaptive' })
  #turn = 0

  constructor(deps: ChooserDeps) {
    this.#deps = deps
  }

  get policy(): string {
    return this.#policy.name
  }

  configure({ policy, scorers = null }: Pick<PoolConfig, 'policy' | 'scorers'>): void {
    this.#policy = policyOf({ policy, scorers })
  }

  /** Whether anybody at all could be given one more request: ready, and with a slot. */
  get hasRoom(): boolean {
    const { ledger, vitals } = this.#deps
    for (const seat of ledger.seats) {
      const slots = slotsInEffect({ slots: seat.config.slots, ramp: vitals.ramp(seat) })
      if (vitals.state(seat) === 'ready' && ledger.inFlight(seat) < slots) return true
    }
    return false
  }

  get anySuspect(): boolean {
    const { ledger, vitals } = this.#deps
    for (const seat of ledger.seats) if (vitals.state(seat) === 'suspect') return true
    return false
  }

  /** @param trace gets every candidate's verdict */
  choose(wish: Wish, trace?: Verdict[]): Choice {
    const held = this.#heldTokens(wish.work)
    const field: Candidate[] = []
    for (const seat of this.#deps.ledger.seats) field.push(this.#candidate(seat, held))
    const ask = this.#ask(wish)
    const choice = decide(field, ask, this.#policy, trace)
    if (choice.kind !== 'too-long') return choice
    // The estimate is rough; where it is right, vLLM says so in better words than we could.
    if (trace) trace.length = 0
    return decide(field, { ...ask, contextTokens: 0 }, this.#policy, trace)
  }

  /** A slot was given as chosen: whoever is asked next sees it. */
  granted({ field, id }: Picked, seat: Seat, { work }: Wish): void {
    if (keepsTurns(this.#policy)) this.#turns.granted(field, id)
    seat.lastTurn = ++this.#turn
    seat.sentSince++
    if (work.prefix.byteLength > 0) this.affinity.note(work.prefix, id)
  }

  /** Another process answers at that address, or none: what the old one had cached is gone. */
  forget(instance: string): void {
    this.affinity.forget(instance)
    this.#turns.forget(instance)
  }

  #ask({ work, avoid, outputTokens }: Wish): Ask {
    return {
      avoid,
      turn: this.#turn,
      promptTokens: work.promptTokens,
      outputTokens,
      contextTokens: work.promptTokens + (work.outputTokens ?? 0),
      hashedTokens: tokensThrough(blocksOf(work.prefix)),
      session: work.session,
      address: work.address,
      place: work.place,
      random: this.#deps.random,
    }
  }

  #candidate(seat: Seat, held: ReadonlyMap<string, number>): Candidate {
    const { config, lastTurn, backlog } = seat
    const { ledger, vitals } = this.#deps
    const readAt = vitals.readAt(seat)
    if (readAt !== seat.readAt) {
      seat.readAt = readAt
      seat.sentSince = 0
    }
    const { running, waiting, kvUse } = vitals.gauges(seat)
    const inFlight = ledger.inFlight(seat)
    return {
      id: config.instance,
      state: vitals.state(seat),
      slots: config.slots,
      weight: config.weight,
      ramp: vitals.ramp(seat),
      inFlight,
      lastTurn,
      credit: this.#turns.credit(config.instance),
      // A configuration of the release before does not say.
      lastResort: config.lastResort ?? false,
      region: config.region ?? null,
      maxModelLen: vitals.maxModelLen(seat),
      promptTokensAhead: backlog.promptTokensAhead,
      outputTokensAhead: backlog.outputTokensAhead,
      prefixTokens: held.get(config.instance) ?? 0,
      running,
      // What was sent since the reading, as far as it has not ended; a burst would else go to one place.
      waiting: waiting === null ? null : waiting + Math.min(seat.sentSince, inFlight),
      kvUse,
      prefillMsPerToken: backlog.prefillMsPerToken,
      msPerToken: backlog.msPerToken,
      errorRate: vitals.errorRate(seat),
    }
  }

  #heldTokens({ prefix, promptTokens }: Work): ReadonlyMap<string, number> {
    if (prefix.byteLength === 0) return NO_MATCH
    return heldTokens(this.affinity.match(prefix), promptTokens)
  }
}
