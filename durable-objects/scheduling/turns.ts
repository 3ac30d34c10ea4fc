import { weightInEffect } from './effect.ts'
import type { Candidate } from './types.ts'

/**
 * What each instance is owed of its turns: the state of Nginx's smooth weighted round robin. Every
 * instance in the field gains its weight at each grant, and the one that is chosen pays for all.
 * The choice itself is the scorer `smoothTurn`; this is told what came of it.
 * @example weights 5, 1, 1 are served a a b a c a a, not a a a a a b c
 */
export class Turns {
  readonly #credits = new Map<string, number>()

  /** Between minus and plus the weights' sum; 0 for one that nobody has heard of. */
  credit(instance: string): number {
    return this.#credits.get(instance) ?? 0
  }

  /**
   * A grant was made. Whoever was not in the field (down, full, avoided) gains nothing, so it does not
   * come back to a burst.
   * @param field all that could have been chosen
   */
  granted(field: readonly Candidate[], chosen: string): void {
    let total = 0
    for (const candidate of field) {
      const gain = weightInEffect(candidate)
      total += gain
      this.#credits.set(candidate.id, this.credit(candidate.id) + gain)
    }
    this.#credits.set(chosen, this.credit(chosen) - total)
  }

  /** It left the fleet, or is another process now. */
  forget(instance: string): void {
    this.#credits.delete(instance)
  }
}
