import type { Policy } from '../../durable-objects/scheduling/types.ts'

/** What the bench calls it beside the policies. */
export const ORACLE = 'oracle'

/**
 * No policy, a bound: it knows every prompt's and answer's true length, what each engine really holds,
 * has to do and is worth, and sends each request where its first token comes soonest.
 * @param waitOf milliseconds to the first token of the request that is asked about, by instance
 */
export const oracle = (waitOf: (instance: string) => number): Policy => ({
  name: ORACLE,
  scorers: [[{ name: 'truth', score: (field) => field.map(({ id }) => 1 / (1 + waitOf(id))) }, 1]],
})
