import type { WatchRpc } from '../../durable-objects/pool/contract.ts'
import { isUnknownMethod } from '../../durable-objects/unknown-method.ts'

/** What an object gives out for as long as a request lives: a lease, a reservation. */
export interface Kept {
  /** Pending while all is well; resolves when the object takes it back; rejects when the object was reset. */
  wait(): Promise<void>
  /** To wait on in its place. Absent from an object of the release before. */
  watch?(): WatchRpc | Promise<WatchRpc>
}

/** It, and the answer that it came in, which is what is to be dropped in the end. */
export interface Grip<K extends Kept> {
  readonly kept: K
  readonly from: object & Partial<Disposable>
}

/** What comes over RPC can be disposed, though its contract does not say so. */
export const drop = (answer: object & Partial<Disposable>): void => answer[Symbol.dispose]?.()

export interface KeeperDeps<K extends Kept> {
  /**
   * Tells the object, after a reset, that this request still runs. `taken`: it may not go on; null: there
   * is nothing to keep any more.
   */
  readonly again: () => Promise<Grip<K> | 'taken' | null>
  readonly sleep: (ms: number) => Promise<void>
  /** In [0, 1). */
  readonly random: () => number
}

/** After a reset every running request comes back; spread over this time, in milliseconds. */
const SPREAD_MS = 500
const TRIES = 5

/**
 * Keeps what an object has given out across the object's resets, for as long as the request lives.
 * Should all of this fail, the runtime still drops it when the request's context ends.
 */
export class Keeper<K extends Kept> {
  readonly #deps: KeeperDeps<K>
  #grip: Grip<K>
  /** What was done with it last; null while it is kept. */
  #last: ((kept: K) => void | Promise<void>) | null = null
  #watched = false

  constructor(grip: Grip<K>, deps: KeeperDeps<K>) {
    this.#grip = grip
    this.#deps = deps
  }

  /**
   * Makes sure that a reset of the object is noticed, and that its word is heard. Called when the
   * request has lived for a moment, and from then on as often as one likes: most requests are over
   * before it is worth a call.
   *
   * @param onTaken called once, when the object takes it back
   */
  watch(onTaken: () => void): void {
    if (this.#watched || this.#over) return
    this.#watched = true
    void this.#watch(this.#grip.kept, onTaken)
  }

  /**
   * The end: `act` is the last that is done with it.
   * @returns false where it was over already; rejects where `act` does
   */
  async end(act: (kept: K) => void | Promise<void>): Promise<boolean> {
    if (this.#over) return false
    this.#last = act
    try {
      await act(this.#grip.kept)
    } finally {
      drop(this.#grip.from)
    }
    return true
  }

  get #over(): boolean {
    return this.#last !== null
  }

  async #watch(kept: Kept, onTaken: () => void): Promise<void> {
    try {
      await wordOf(kept)
      if (!this.#over) onTaken()
    } catch {
      await this.#comeBack(onTaken)
    }
  }

  async #comeBack(onTaken: () => void): Promise<void> {
    for (let tries = 0; tries < TRIES && !this.#over; tries++) {
      await this.#deps.sleep(this.#deps.random() * SPREAD_MS * 2 ** tries)
      if (this.#over) return
      try {
        const again = await this.#deps.again()
        if (again === null) return
        if (again === 'taken') {
          if (!this.#over) onTaken()
          return
        }
        if (this.#last) return await endNow(again, this.#last)
        drop(this.#grip.from)
        this.#grip = again
        void this.#watch(again.kept, onTaken)
        return
      } catch {
        // Still starting: once more, later.
      }
    }
  }
}

/** What comes back to a request that is over hears the same last word: being dropped would say another. */
async function endNow<K extends Kept>(
  { kept, from }: Grip<K>,
  act: (kept: K) => void | Promise<void>,
): Promise<void> {
  try {
    await act(kept)
  } catch {
    // Reset again: there is nothing left of it.
  } finally {
    drop(from)
  }
}

/**
 * Waits beside what is kept: a call pending on that itself would keep the runtime from dropping it when
 * the request's context ends.
 */
async function wordOf(kept: Kept): Promise<void> {
  if (!kept.watch) return kept.wait()
  const watch = await Promise.resolve(kept.watch()).catch((cause: unknown) => {
    if (isUnknownMethod(cause)) return undefined
    throw cause
  })
  return (watch ?? kept).wait()
}
