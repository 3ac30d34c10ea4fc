/** What speaks for an instance by its turn, by chance, by whom it keeps, and by requests in flight. */
import { loadOf, weightInEffect } from './effect.ts'
import { draw, hashOf } from './hashing.ts'
import type { Ask, Candidate, Scorer } from './types.ts'

/** A scorer that needs to see one candidate only. */
const byItself = (name: string, valueOf: (candidate: Candidate, ask: Ask) => number): Scorer => ({
  name,
  score: (field, ask) => field.map((candidate) => valueOf(candidate, ask)),
})

/**
 * Requests in flight per unit of weight: 1 when idle, towards 0 as it fills.
 * Nginx's least_conn, but counted across the whole edge rather than per proxy.
 * @example 6 in flight at weight 2 and 3 at weight 1 score the same: 1/4
 */
export const fewInFlight = byItself('inflight', (candidate) => 1 / (1 + loadOf(candidate)))

/**
 * How long ago its last turn was: 1 for one that never had a turn, 0 for the one just served. While
 * it starts slowly its wait passes more slowly too.
 */
export const longestWait = byItself('turn', ({ lastTurn, ramp }, { turn }) =>
  turn === 0 ? ramp : ramp * (1 - lastTurn / turn),
)

/** Whose turn it is by weight, smoothly, as Nginx does it; {@link Turns} keeps the credits. */
export const smoothTurn: Scorer = {
  name: 'smooth_turn',
  score(field) {
    const total = weightsOf(field)
    return field.map((candidate) => {
      const owed = candidate.credit + weightInEffect(candidate)
      return 0.5 + owed / (2 * (total + Math.abs(owed))) // squeezed into 0 to 1, order kept
    })
  },
}

/** Chance, by weight: the highest of u^(1/weight) is each one's as often as its weight says. */
export const chance = byItself(
  'chance',
  (candidate, { random }) => random() ** (1 / weightInEffect(candidate)),
)

/** Two drawn by chance: 1 for the less loaded of them, 1/2 for the other, 0 for all that were not drawn. */
export const lessLoadedOfTwo: Scorer = {
  name: 'two_choices',
  score(field, { random }) {
    const values = Array<number>(field.length).fill(0)
    const first = Math.floor(random() * field.length)
    const second = (first + 1 + Math.floor(random() * (field.length - 1))) % field.length
    const [a, b] = [field[first], field[second]]
    if (a === undefined || b === undefined) return values
    const firstWins = loadOf(a) <= loadOf(b)
    values[firstWins ? second : first] = 0.5
    values[firstWins ? first : second] = 1
    return values
  },
}

/** A hash keeps each key's requests in one place. @param keyOf what is kept together */
const together = (name: string, keyOf: (ask: Ask) => string): Scorer => ({
  name,
  score(field, ask) {
    const key = hashOf(keyOf(ask))
    return field.map(({ id, weight }) => draw(key, id, weight))
  },
})

export const sameSession = together('session', ({ session }) => session)
export const sameAddress = together('address', ({ address }) => address)

/**
 * 1 while it carries no more than `bound` times its share of the field's requests, this one
 * included; else 0. What keeps hashing and affinity from burying one instance (L16; "consistent
 * hashing with bounded loads", Mirrokni, Thorup, Zadimoghaddam, 2016). Somebody is always within it.
 */
const bounded = (name: string, bound: number): Scorer => ({
  name,
  score(field) {
    let inFlight = 1
    for (const candidate of field) inFlight += candidate.inFlight
    const perWeight = (bound * inFlight) / weightsOf(field)
    return field.map((candidate) =>
      candidate.inFlight + 1 <= Math.ceil(perWeight * weightInEffect(candidate)) ? 1 : 0,
    )
  },
})

/** At most 1.25 times its share: for policies that would otherwise not look at the load. */
export const withinBound = bounded('bounded_load', 1.25)

/**
 * At most 1.5 times its share: for one that does, by estimates. They cannot see that an engine has
 * stopped; that its requests do not end shows at once in their number.
 */
export const uncrowded = bounded('uncrowded', 1.5)

/** Location hints that are a short way from each other. */
const NEIGHBOURS: readonly (readonly string[])[] = [
  ['wnam', 'enam'],
  ['weur', 'eeur'],
]

/** 1 in the tenant's own region, less in one next to it, 0 far away; 1/2 where either is not known. */
export const nearby = byItself('locality', ({ region }, { place }) => {
  if (region === null || place === null) return 0.5
  if (region === place) return 1
  return NEIGHBOURS.some((pair) => pair.includes(region) && pair.includes(place)) ? 0.75 : 0
})

function weightsOf(field: readonly Candidate[]): number {
  let total = 0
  for (const candidate of field) total += weightInEffect(candidate)
  return total
}
