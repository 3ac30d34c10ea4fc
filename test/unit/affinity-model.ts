import { tokensOf } from '../../durable-objects/scheduling/blocks.ts'

/** Blocks with these numbers as their hashes. */
export function hashesOf(numbers: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 8)
  const view = new DataView(bytes.buffer)
  for (const [i, number] of numbers.entries()) {
    view.setUint32(i * 8, Math.imul(number, 0x9e3779b1) >>> 0, true)
    view.setUint32(i * 8 + 4, number, true)
  }
  return bytes
}

/** A prompt of one block a character, chained: each hash says all up to it. */
export function chain(text: string): Uint8Array {
  const numbers: number[] = []
  let number = 7
  for (const letter of text) {
    number = (number * 131 + letter.charCodeAt(0)) % 0xfff_fff1
    numbers.push(number)
  }
  return hashesOf(numbers)
}

interface Held {
  readonly instance: string
  /** The prompt up to this block's end. */
  readonly through: string
}

/** The affinity index without any of its haste: one list, most recently used first. */
export class Naive {
  readonly #capacity: number
  readonly #limits = new Map<string, number>()
  #list: Held[] = []

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#list.length
  }

  note(text: string, instance: string): void {
    const used = Array.from(text, (_, i) => ({ instance, through: text.slice(0, i + 1) }))
    const others = this.#list.filter(
      (held) => held.instance !== instance || !text.startsWith(held.through),
    )
    this.#list = [...used, ...others].slice(0, this.#capacity)
    this.#keepLimit(instance)
  }

  forget(instance: string): void {
    this.#limits.delete(instance)
    this.#list = this.#list.filter((held) => held.instance !== instance)
  }

  limit(instance: string, tokens: number | null): void {
    this.#limits.set(instance, tokens ?? Infinity)
    this.#keepLimit(instance)
  }

  match(text: string): Record<string, number> {
    const matches: Record<string, number> = {}
    for (const { instance, through } of this.#list) {
      if (text.startsWith(through)) {
        matches[instance] = Math.max(matches[instance] ?? 0, through.length)
      }
    }
    return matches
  }

  #keepLimit(instance: string): void {
    const most = this.#limits.get(instance) ?? Infinity
    for (;;) {
      const own = this.#list.filter((held) => held.instance === instance)
      const tokens = own.reduce((sum, { through }) => sum + tokensOf(through.length - 1), 0)
      const oldest = own.at(-1)
      if (tokens <= most || oldest === undefined) return
      this.#list = this.#list.filter((held) => held !== oldest)
    }
  }
}
