import type { PoolConfig } from '../fleet/snapshot.ts'
import { AFFINITY_CAPACITY, AffinityIndex } from '../scheduling/affinity.ts'
import { blocksOf, tokensThrough } from '../scheduling/blocks.ts'
import { heldTokens } from '../scheduling/held.ts'
import { slotsInEffect } from '../scheduling/effect.ts'
import { decide, type Choice, type Candidacy } from '../scheduling/picker.ts'
import { keepsTurns, policyOf } from '../scheduling/policies.ts'
import { Turns } from '../scheduling/turns.ts'
import type { Ask, Policy } from '../scheduling/types.ts'
import { Contender } from './contender.ts'
import type { Work } from './contract.ts'
import type { Ledger } from './ledger.ts'
import type { Seat } from './seat.ts'

export interface ChooserDeps {
  readonly ledger: Ledger
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

const contextTokensOf = ({ promptTokens, outputTokens }: Work): number =>
  promptTokens + (outputTokens ?? 0)

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
  #field: readonly Contender[] = []

  constructor(deps: ChooserDeps) {
    this.#deps = deps
  }

  get policy(): string {
    return this.#policy.name
  }

  /** To be called whenever the ledger has been configured: its seats are the field. */
  configure({ policy, scorers = null }: Pick<PoolConfig, 'policy' | 'scorers'>): void {
    this.#policy = policyOf({ policy, scorers })
    this.#field = Array.from(this.#deps.ledger.seats, (seat) => new Contender(seat))
  }

  /** Whether anybody at all could be given one more request: ready, and with a slot. */
  get hasRoom(): boolean {
    for (const { state, inFlight, config, vitals } of this.#deps.ledger.seats) {
      const slots = slotsInEffect({ slots: config.slots, ramp: vitals.ramp })
      if (state === 'ready' && inFlight < slots) return true
    }
    return false
  }

  /**
   * What decides who might take a request, slots and health apart. Where one of a kind finds nobody,
   * another finds nobody either, as long as no slot comes free. A text, to be compared.
   */
  kindOf({ work, avoid }: Pick<Wish, 'work' | 'avoid'>): string {
    const contextTokens = contextTokensOf(work)
    let fits = 0
    // Whom it fits, it fits best: so many are always the same ones.
    for (const { vitals } of this.#deps.ledger.seats)
      if (vitals.maxModelLen === null || contextTokens <= vitals.maxModelLen) fits++
    return `${fits} ${avoid.join()} ${work.adapter ?? ''}`
  }

  get anySuspect(): boolean {
    for (const { state } of this.#deps.ledger.seats) if (state === 'suspect') return true
    return false
  }

  /** @param trace gets every candidate's candidacy */
  choose(wish: Wish, trace?: Candidacy[]): Choice {
    this.#update(wish.work)
    const field = this.#field
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
    seat.granted(++this.#turn)
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
      contextTokens: contextTokensOf(work),
      adapter: work.adapter ?? null,
      hashedTokens: tokensThrough(blocksOf(work.prefix)),
      session: work.session,
      address: work.address,
      place: work.place,
      random: this.#deps.random,
    }
  }

  /** One moment for all of them. */
  #update(work: Work): void {
    const held = this.#heldTokens(work)
    for (const contender of this.#field) {
      const { id } = contender
      contender.update(held.get(id) ?? 0, this.#turns.credit(id))
    }
  }

  #heldTokens({ prefix, promptTokens }: Work): ReadonlyMap<string, number> {
    if (prefix.byteLength === 0) return NO_MATCH
    return heldTokens(this.affinity.match(prefix), promptTokens)
  }
}
