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
 * 1 while it carries no more than its share of the field's requests, this one included, and some
 * slack; else 0. What keeps hashing and affinity from burying one instance (L16; "consistent hashing with
 * bounded loads", Mirrokni, Thorup, Zadimoghaddam, 2016). Somebody is always within it.
 * @param slackOf requests above the share; not negative
 */
const bounded = (
  name: string,
  slackOf: (share: number, candidate: Candidate, ask: Ask) => number,
): Scorer => ({
  name,
  score(field, ask) {
    let inFlight = 1
    for (const candidate of field) inFlight += candidate.inFlight
    const perWeight = inFlight / weightsOf(field)
    return field.map((candidate) => {
      const share = perWeight * weightInEffect(candidate)
      const most = Math.ceil(share + slackOf(share, candidate, ask))
      return candidate.inFlight + 1 <= most ? 1 : 0
    })
  },
})

/** At most 1.25 times its share: for policies that would otherwise not look at the load. */
export const withinBound = bounded('bounded_load', (share) => share / 4)

/**
 * What an instance may carry above its share while its requests are on time: a part of it, or a few where
 * the share is small, so that in a quiet pool a conversation finds its cache again.
 */
const SLACK = 0.75
const SLACK_AT_LEAST = 4

/**
 * What requests on time have left of the answer they are taken for, on average: all of it at first, and
 * a third at the end, since nine in ten are shorter.
 */
const USUALLY_LEFT = 0.7

/** Requests on time that are taken to run besides: one or two that are nearly done do not say it is late. */
const BENEFIT_OF_DOUBT = 2

/** How well an instance's requests keep time: 1, and towards 0 the more of them should be over. */
function punctuality({ inFlight, outputTokensAhead }: Candidate, { outputTokens }: Ask): number {
  const onTime = outputTokensAhead / (USUALLY_LEFT * Math.max(1, outputTokens))
  return Math.min(1, (onTime + BENEFIT_OF_DOUBT) / (inFlight + BENEFIT_OF_DOUBT))
}

/**
 * At most 1.75 times its share, and the less of that the later its requests are: for a policy that looks at
 * the load by estimates. When an engine stops, these say that it is done soon; that its requests do
 * not end shows in their number, and that they should have, in how little seems to be left of them.
 */
export const uncrowded = bounded(
  'uncrowded',
  (share, candidate, ask) =>
    punctuality(candidate, ask) * Math.max(SLACK * share, SLACK_AT_LEAST * candidate.ramp),
)

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
