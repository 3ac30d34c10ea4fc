/** So many at once, the rest in their order; rounds that overlap share the same lanes. */
export class Lanes {
  readonly #count: number
  readonly #queue: (() => Promise<void>)[] = []
  #busy = 0

  constructor(count: number) {
    this.#count = count
  }

  /** @returns what the work yields, or how it fails: that is its caller's alone, and the lane goes on */
  run<T>(work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.#queue.push(async () => {
      try {
        resolve(await work())
      } catch (cause) {
        reject(cause)
      }
    })
    if (this.#busy < this.#count) void this.#drive()
    return promise
  }

  async #drive(): Promise<void> {
    this.#busy++
    for (let work = this.#queue.shift(); work; work = this.#queue.shift()) await work()
    this.#busy--
  }
}
