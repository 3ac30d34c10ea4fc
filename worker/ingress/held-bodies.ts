import { Refusal } from '../refusal.ts'

/** What one isolate keeps of bodies at once, in bytes; it has 128 MB for everything. */
const MOST_BYTES = 48 * 1024 ** 2

/** A form is held as bytes, as files, and as what goes upstream. */
export const FORM_COPIES = 3

/**
 * The bodies that an isolate keeps until their answers begin, since each may be sent more than once. A
 * bound for all of them together: one upload too many must not take every stream of the isolate along.
 */
export class HeldBodies {
  readonly #most: number
  #bytes = 0

  /** @param most bytes at once */
  constructor(most: number = MOST_BYTES) {
    this.#most = most
  }

  /**
   * @returns gives the room back; harmless twice
   * @throws Refusal `router_unavailable` when there is no room now. A body that is alone always has.
   */
  hold(bytes: number): () => void {
    if (this.#bytes > 0 && this.#bytes + bytes > this.#most) {
      throw new Refusal('router_unavailable', 'Too many large requests at once. Try again.', {
        headers: { 'retry-after': '1' },
      })
    }
    this.#bytes += bytes
    let held = bytes
    return () => {
      this.#bytes -= held
      held = 0
    }
  }
}
