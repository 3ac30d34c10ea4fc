import { Refusal } from '../refusal.ts'

/** What one isolate keeps of bodies at once, in bytes; it has 128 MB for everything. */
const MOST_BYTES = 48 * 1024 ** 2

/**
 * One body counts for no more than this share of it, however large it is: alone it always has room, and
 * others have some beside it for as long as it is held.
 */
const MOST_OF_ONE = 3 / 4

/** What is no larger is counted and never refused: a few large ones must not lock out all others. */
export const SMALL_BYTES = 256 * 1024

/** A form is held as bytes, as files, and as what goes upstream. */
export const FORM_COPIES = 3

/** The room that one body takes. */
export interface Room {
  /**
   * The body has turned out to be so large, in bytes; no more than it was taken for changes nothing, nor does
   * what is still said of one that has been released.
   * @throws Refusal `router_unavailable` when there is no room for the rest
   */
  readonly grow: (bytes: number) => void
  /** Harmless twice. */
  readonly release: () => void
}

/**
 * The bodies that an isolate keeps until their answers begin, since each may be sent more than once. A
 * bound for all of them together: one upload too many must not take every stream of the isolate along.
 */
export class HeldBodies {
  readonly #most: number
  readonly #small: number
  #bytes = 0

  /**
   * @param most  bytes at once
   * @param small what always has room, in bytes
   */
  constructor(most: number = MOST_BYTES, small: number = SMALL_BYTES) {
    this.#most = most
    this.#small = small
  }

  /** @throws Refusal `router_unavailable` when there is no room now */
  hold(bytes: number): Room {
    let held = 0
    let over = false
    const grow = (to: number): void => {
      const more = Math.min(to, this.#most * MOST_OF_ONE) - held
      if (over || more <= 0) return
      if (to > this.#small && this.#bytes + more > this.#most) throw tooMuch()
      this.#bytes += more
      held += more
    }
    const release = (): void => {
      over = true
      this.#bytes -= held
      held = 0
    }
    grow(bytes)
    return { grow, release }
  }
}

const tooMuch = (): Refusal =>
  new Refusal('router_unavailable', 'Too many large requests at once. Try again.', {
    headers: { 'retry-after': '1' },
  })
