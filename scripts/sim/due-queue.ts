/** A binary heap of items by the time they are due; ties leave in the order they came. */
export class DueQueue<T extends { dueAt: number }> {
  readonly #heap: { item: T; at: number; order: number }[] = []
  #order = 0

  get size(): number {
    return this.#heap.length
  }

  /** When the first item is due; null when there is none. Entries of moved items may be early. */
  get nextAt(): number | null {
    return this.#heap[0]?.at ?? null
  }

  push(item: T): void {
    const heap = this.#heap
    const entry = { item, at: item.dueAt, order: this.#order++ }
    let i = heap.length
    heap.push(entry)
    while (i > 0) {
      const parent = (i - 1) >> 1
      const above = heap[parent]
      if (above === undefined || !before(entry, above)) break
      heap[i] = above
      i = parent
    }
    heap[i] = entry
  }

  /** Takes the first item out if it is due by `now`. */
  popDue(now: number): { item: T; at: number } | null {
    const heap = this.#heap
    const top = heap[0]
    if (top === undefined || top.at > now) return null
    const last = heap.pop()
    if (last !== undefined && heap.length > 0) this.#sink(last)
    return top
  }

  #sink(entry: { item: T; at: number; order: number }): void {
    const heap = this.#heap
    let i = 0
    for (;;) {
      const left = heap[2 * i + 1]
      const right = heap[2 * i + 2]
      if (left === undefined) break
      const child = right !== undefined && before(right, left) ? right : left
      if (!before(child, entry)) break
      heap[i] = child
      i = child === left ? 2 * i + 1 : 2 * i + 2
    }
    heap[i] = entry
  }
}

const before = (a: { at: number; order: number }, b: { at: number; order: number }): boolean =>
  a.at < b.at || (a.at === b.at && a.order < b.order)
