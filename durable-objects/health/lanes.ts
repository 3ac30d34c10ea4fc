/** So many at once, the rest in their order; rounds that overlap share the same lanes. */
export class Lanes {
  readonly #count: number
  readonly #queue: (() => Promise<void>)[] = []
  #busy = 0

  constructor(count: number) {
    this.#count = count
  }

  run(work: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#queue.push(() => work().finally(resolve))
    if (this.#busy < this.#count) void this.#drive()
    return promise
  }

  async #drive(): Promise<void> {
    this.#busy++
    for (let work = this.#queue.shift(); work; work = this.#queue.shift()) await work()
    this.#busy--
  }
}
