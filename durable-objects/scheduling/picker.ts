import { freeSlot, ordinary, ready, untried } from './filters.ts'
import type { Ask, Candidate, Policy } from './types.ts'

/** The outcome of one choice. Which filter emptied the field says what to tell the tenant. */
export type Choice =
  | { readonly kind: 'picked'; readonly id: string }
  | { readonly kind: 'none-ready' }
  | { readonly kind: 'all-avoided' }
  | { readonly kind: 'all-full' }

/**
 * Picks an instance: filters → scorers → the highest score. Of those that could take the request, a
 * last resort is chosen only when there is no other.
 *
 * Pure: the pool object, explanations, the simulator and the tests all call this one function.
 * Equal scores go to the instance whose last turn is longest ago, so an idle fleet takes turns.
 *
 * @param candidates every instance of the pool
 */
export function pick(candidates: readonly Candidate[], ask: Ask, policy: Policy): Choice {
  const inService = candidates.filter((candidate) => ready.keeps(candidate, ask))
  if (inService.length === 0) return { kind: 'none-ready' }

  const worthTrying = inService.filter((candidate) => untried.keeps(candidate, ask))
  if (worthTrying.length === 0) return { kind: 'all-avoided' }

  const free = worthTrying.filter((candidate) => freeSlot.keeps(candidate, ask))
  const others = free.filter((candidate) => ordinary.keeps(candidate, ask))
  const best = highest(others, ask, policy) ?? highest(free, ask, policy)
  return best ? { kind: 'picked', id: best.id } : { kind: 'all-full' }
}

function highest(
  candidates: readonly Candidate[],
  ask: Ask,
  { scorers }: Policy,
): Candidate | undefined {
  let best: Candidate | undefined
  let bestScore = -Infinity
  for (const candidate of candidates) {
    let score = 0
    for (const [scorer, weight] of scorers) score += weight * scorer(candidate, ask)
    const longerIdle = best === undefined || candidate.lastTurn < best.lastTurn
    if (score > bestScore || (score === bestScore && longerIdle)) {
      best = candidate
      bestScore = score
    }
  }
  return best
}
