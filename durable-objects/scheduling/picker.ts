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

/** How far a candidate came, and why no further. */
export interface Candidacy {
  readonly id: string
  /** Name of the filter that left it out; null when it was in the field. */
  readonly droppedBy: string | null
  /** Empty for one that was left out. */
  readonly opinions: readonly Opinion[]
  /** Values times weights; null for one that was left out. */
  readonly total: number | null
}

type Nobody = Exclude<Choice['kind'], 'picked'>

/** In the order they are asked, with what it means when one of them leaves nobody. */
const FILTERS: readonly { readonly filter: Filter; readonly whenNobody: Nobody }[] = [
  { filter: ready, whenNobody: 'none-ready' },
  { filter: servesAdapter, whenNobody: 'none-ready' },
  { filter: fitsContext, whenNobody: 'too-long' },
  { filter: untried, whenNobody: 'all-avoided' },
  { filter: freeSlot, whenNobody: 'all-full' },
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
 * @param trace      gets one candidacy for each candidate, in their order; an explanation is this very
 *                   choice told, so it can never differ from it
 */
export function decide(
  candidates: readonly Candidate[],
  ask: Ask,
  policy: Policy,
  trace?: Candidacy[],
): Choice {
  const dropped: Dropped | null = trace ? new Map() : null
  const { field, whenNobody } = narrowed(candidates, ask, dropped)
  const totals = Array<number>(field.length).fill(0)
  const said = policy.scorers.map(([scorer, weight]) => {
    const values = scorer.score(field, ask)
    for (let i = 0; i < totals.length; i++) totals[i] = (totals[i] ?? 0) + weight * (values[i] ?? 0)
    return values
  })
  if (trace && dropped) {
    const scored = { field, totals, said }
    for (const candidate of candidates) trace.push(candidacyOf(candidate, dropped, policy, scored))
  }
  const best = highest(field, totals)
  return best ? { kind: 'picked', id: best.id, field } : { kind: whenNobody }
}

/** Who was left out, and by which filter: remembered where the choice is to be explained. */
type Dropped = Map<Candidate, Filter>

/** Those that every filter keeps, less the last resorts where there are others. */
function narrowed(
  candidates: readonly Candidate[],
  ask: Ask,
  dropped: Dropped | null,
): { readonly field: readonly Candidate[]; readonly whenNobody: Nobody } {
  let field = candidates
  let whenNobody: Nobody = 'none-ready' // of a pool without instances
  for (const step of FILTERS) {
    if (field.length === 0) break
    whenNobody = step.whenNobody
    field = passing(field, step.filter, ask, dropped)
  }
  const others = passing(field, ordinary, ask, null)
  return { field: others.length > 0 ? others : field, whenNobody }
}

const passing = (
  field: readonly Candidate[],
  filter: Filter,
  ask: Ask,
  dropped: Dropped | null,
): readonly Candidate[] =>
  field.filter((candidate) => {
    const passes = filter.keeps(candidate, ask)
    if (!passes) dropped?.set(candidate, filter)
    return passes
  })

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

function candidacyOf(
  candidate: Candidate,
  dropped: Dropped,
  { scorers }: Policy,
  scored: {
    readonly field: readonly Candidate[]
    readonly totals: readonly number[]
    readonly said: readonly (readonly number[])[]
  },
): Candidacy {
  const { id } = candidate
  const at = scored.field.indexOf(candidate)
  if (at === -1) {
    // Whom no filter has dropped, others were preferred to.
    const { name } = dropped.get(candidate) ?? ordinary
    return { id, droppedBy: name, opinions: [], total: null }
  }
  const opinions = scorers.map(([{ name }, weight], i) => {
    return { scorer: name, value: scored.said[i]?.[at] ?? 0, weight }
  })
  return { id, droppedBy: null, opinions, total: scored.totals[at] ?? 0 }
}
