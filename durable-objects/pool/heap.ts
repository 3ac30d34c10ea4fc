/**
 * A binary heap: whose turn is next of many, where only the next one's turn ever changes. Source:
 * J. W. J. Williams, "Algorithm 232: Heapsort" (1964); built bottom up, as R. W. Floyd does.
 */
export class Heap<T> {
  readonly #items: T[]
  readonly #isBefore: (one: T, other: T) => boolean

  /** O(items). */
  constructor(items: Iterable<T>, isBefore: (one: T, other: T) => boolean) {
    this.#items = [...items]
    this.#isBefore = isBefore
    for (let at = (this.#items.length >> 1) - 1; at >= 0; at--) this.#sink(at)
  }

  /** Undefined once it is empty. */
  get first(): T | undefined {
    return this.#items[0]
  }

  /** The first one has gone back: another may be the first now. O(log items). */
  settleFirst(): void {
    this.#sink(0)
  }

  /** Takes the first one out. O(log items). */
  dropFirst(): void {
    const last = this.#items.pop()
    if (last === undefined || this.#items.length === 0) return
    this.#items[0] = last
    this.#sink(0)
  }

  /** Moves what is at a place down until nobody below goes before it. */
  #sink(from: number): void {
    const items = this.#items
    const item = items[from]
    if (item === undefined) return
    let at = from
    for (;;) {
      let below = 2 * at + 1
      let least = items[below]
      const right = items[below + 1]
      if (least !== undefined && right !== undefined && this.#isBefore(right, least)) {
        least = right
        below++
      }
      if (least === undefined || !this.#isBefore(least, item)) break
      items[at] = least
      at = below
    }
    items[at] = item
  }
}
