import { fitsContext, freeSlot, ordinary, ready, servesAdapter, untried } from './filters.ts'
import type { Ask, Candidate, Filter, Policy } from './types.ts'

/** The outcome of one choice. Which filter emptied the field says what to tell the tenant. */
export type Choice =
  | {
      readonly kind: 'picked'
      readonly id: string
      /** All that could have been picked, for whoever keeps turns. */
      readonly field: readonly Candidate[]
    }
  | { readonly kind: 'none-ready' }
  /** Every ready instance's context is too short for it. */
  | { readonly kind: 'too-long' }
  | { readonly kind: 'all-avoided' }
  | { readonly kind: 'all-full' }

/** What one scorer said of one candidate. */
export interface Opinion {
  readonly scorer: string
  readonly value: number
  readonly weight: number
}

/** Why a candidate was chosen or not. */
export interface Verdict {
  readonly id: string
  /** Name of the filter that left it out; null when it was in the field. */
  readonly droppedBy: string | null
  /** Empty for one that was left out. */
  readonly opinions: readonly Opinion[]
  /** Values times weights; null for one that was left out. */
  readonly total: number | null
}

/** In the order they are asked, with what it means when nobody gets past one. */
const FILTERS: readonly (readonly [Filter, Exclude<Choice['kind'], 'picked'>])[] = [
  [ready, 'none-ready'],
  [servesAdapter, 'none-ready'],
  [fitsContext, 'too-long'],
  [untried, 'all-avoided'],
  [freeSlot, 'all-full'],
]

/**
 * Picks an instance: filters → scorers → the highest total. Of those that could take the request, a
 * last resort is chosen only when there is no other.
 *
 * Pure but for `ask.random`: the pool object, explanations, the policy bench and the tests all call
 * this one function. Equal totals go to the instance whose last turn is longest ago, so an idle
 * fleet takes turns.
 *
 * @param candidates every instance of the pool
 * @param trace      gets one verdict for each candidate, in their order; an explanation is this very
 *                   choice told, so it can never differ from it
 */
export function decide(
  candidates: readonly Candidate[],
  ask: Ask,
  policy: Policy,
  trace?: Verdict[],
): Choice {
  let field: Candidate[] = []
  const lastResorts: Candidate[] = []
  let furthest = 0
  for (const candidate of candidates) {
    const passed = filtersPassed(candidate, ask)
    if (passed > furthest) furthest = passed
    if (passed < FILTERS.length) continue
    if (ordinary.keeps(candidate, ask)) field.push(candidate)
    else lastResorts.push(candidate)
  }
  if (field.length === 0) field = lastResorts

  const totals = Array<number>(field.length).fill(0)
  const said = policy.scorers.map(([scorer, weight]) => {
    const values = scorer.score(field, ask)
    for (let i = 0; i < totals.length; i++) totals[i] = (totals[i] ?? 0) + weight * (values[i] ?? 0)
    return values
  })
  if (trace) explain(candidates, ask, policy, { field, totals, said }, trace)

  const best = highest(field, totals)
  if (best) return { kind: 'picked', id: best.id, field }
  return { kind: FILTERS[furthest]?.[1] ?? 'none-ready' }
}

function filtersPassed(candidate: Candidate, ask: Ask): number {
  let passed = 0
  while (FILTERS[passed]?.[0].keeps(candidate, ask)) passed++
  return passed
}

function highest(field: readonly Candidate[], totals: readonly number[]): Candidate | undefined {
  let best: Candidate | undefined
  let most = -Infinity
  for (let i = 0; i < field.length; i++) {
    const candidate = field[i]
    const total = totals[i] ?? 0
    if (candidate === undefined || total < most) continue
    if (total > most || best === undefined || candidate.lastTurn < best.lastTurn) {
      best = candidate
      most = total
    }
  }
  return best
}

function explain(
  candidates: readonly Candidate[],
  ask: Ask,
  { scorers }: Policy,
  scored: {
    readonly field: readonly Candidate[]
    readonly totals: readonly number[]
    readonly said: readonly (readonly number[])[]
  },
  trace: Verdict[],
): void {
  for (const candidate of candidates) {
    const { id } = candidate
    const at = scored.field.indexOf(candidate)
    if (at === -1) {
      const filter = FILTERS[filtersPassed(candidate, ask)]?.[0] ?? ordinary
      trace.push({ id, droppedBy: filter.name, opinions: [], total: null })
      continue
    }
    const opinions = scorers.map(([{ name }, weight], i) => {
      return { scorer: name, value: scored.said[i]?.[at] ?? 0, weight }
    })
    trace.push({ id, droppedBy: null, opinions, total: scored.totals[at] ?? 0 })
  }
}
