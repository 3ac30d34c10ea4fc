/** Builders for the tests of choosing: a test names only what matters to it. */
import { decide } from '../../durable-objects/scheduling/picker.ts'
import type { Ask, Candidate, Policy } from '../../durable-objects/scheduling/types.ts'

/** An idle instance of which nothing is known yet. */
export const candidate = (named: Partial<Candidate> = {}): Candidate => ({
  id: 'a',
  state: 'ready',
  slots: 4,
  weight: 1,
  ramp: 1,
  inFlight: 0,
  lastTurn: 0,
  credit: 0,
  lastResort: false,
  region: null,
  maxModelLen: null,
  promptTokensAhead: 0,
  outputTokensAhead: 0,
  prefixTokens: 0,
  running: null,
  waiting: null,
  kvUse: null,
  prefillMsPerToken: null,
  msPerToken: null,
  errorRate: 0,
  ...named,
})

export const ask = (named: Partial<Ask> = {}): Ask => ({
  avoid: [],
  turn: 0,
  promptTokens: 1000,
  outputTokens: 100,
  contextTokens: 1000,
  hashedTokens: 0,
  session: 'session',
  address: '198.51.100.1',
  place: null,
  random: () => 0.5,
  ...named,
})

/** So many candidates, `a`, `b`, …, each with these properties. */
export const fieldOf = (size: number, named: Partial<Candidate> = {}): Candidate[] =>
  Array.from({ length: size }, (_, i) => candidate({ id: String.fromCharCode(97 + i), ...named }))

/** Who is picked; throws when nobody is. */
export function picked(
  field: readonly Candidate[],
  policy: Policy,
  named: Partial<Ask> = {},
): string {
  const choice = decide(field, ask(named), policy)
  if (choice.kind !== 'picked') throw new Error(choice.kind)
  return choice.id
}
