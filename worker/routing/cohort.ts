import { hashOf, stirred } from '../../durable-objects/scheduling/hashing.ts'
import type { Arm, Stickiness } from '../../durable-objects/fleet/snapshot.ts'

/** Whose request it is. */
export interface Member {
  readonly tenant: string
  /** Its own word for its end user; null where it says none. */
  readonly user: string | null
  /** What stays the same from turn to turn of a conversation; '' where nothing says. */
  readonly session: string
}

/** Who must stay on one arm, by what a model is sticky; a whole tenant where a request says no more. */
export function cohortOf(
  { tenant, user, session }: Member,
  sticky: Stickiness = 'tenant+user',
): string {
  const within = { 'tenant+user': user ?? '', tenant: '', session }
  return `${tenant}\u0000${within[sticky]}`
}

/**
 * The arm that a tenant's user belongs to: weighted rendezvous hashing.
 *
 * Each arm draws a number from the key alone and the highest -weight/ln(draw) wins, which picks arms
 * in proportion to their weights. Since an arm's draw never changes, raising its weight can only win
 * keys over *to* it: going from 5 to 10 % moves newcomers and nobody back.
 * Source: Schindelhauer & Schomaker, "Weighted Distributed Hash Tables" (SPAA 2005).
 *
 * @param key who must stay together, e.g. tenant and user
 * @returns undefined only when every weight is 0
 */
export function armFor(key: string, arms: readonly Arm[]): Arm | undefined {
  if (arms.length === 1) return arms[0]
  let best: Arm | undefined
  let bestScore = 0
  for (const arm of arms) {
    const score = -arm.weight / Math.log(draw(`${arm.name}\u0000${key}`))
    if (score > bestScore) {
      best = arm
      bestScore = score
    }
  }
  return best
}

/** A text's fixed place in (0, 1). */
const draw = (text: string): number => (stirred(hashOf(text)) + 0.5) / 2 ** 32
