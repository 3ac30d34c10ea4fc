import { isObject, type Json } from '../json.ts'
import type { Presentation } from './edits.ts'

/** Most that is kept of one answer, in characters. Parsed it takes up to five times as much, of an isolate's 128 MB. */
const MOST_KEPT = 8 * 1024 ** 2

/** What every frame of an answer says alike; of these the first one is enough. */
const HEAD = ['id', 'object', 'created', 'model'] as const
const IDS = ['token_ids', 'prompt_token_ids'] as const

/**
 * The data frames of an answer that is put together in the end. Where they come to be too many, they are
 * rid of what putting it together has no use for: that is most of a frame which brings one token.
 */
export class Collected {
  readonly frames: Json[] = []
  readonly #ids: readonly string[]
  /** Of all frames, and of those that are as they came. */
  #size = 0
  #sizeAsCame = 0
  #thinned = 0

  constructor({ hidesIds }: Pick<Presentation, 'hidesIds'>) {
    this.#ids = hidesIds ? IDS : [] // counted they are already
  }

  /** @param size of its text, in characters */
  add(frame: Json, size: number): void {
    this.frames.push(frame)
    this.#size += size
    this.#sizeAsCame += size
  }

  /** @param more what there is besides, of the same answer: a frame that is not whole yet */
  fits(more: number): boolean {
    if (this.#size + more > MOST_KEPT) this.#thin()
    return this.#size + more <= MOST_KEPT
  }

  #thin(): void {
    this.#size -= this.#sizeAsCame
    this.#sizeAsCame = 0
    for (const [past, frame] of this.frames.slice(this.#thinned).entries()) {
      const at = this.#thinned + past
      const thin = this.#thinOf(frame, at === 0 ? this.#ids : [...HEAD, ...this.#ids])
      this.frames[at] = thin
      this.#size += JSON.stringify(thin).length
    }
    this.#thinned = this.frames.length
  }

  #thinOf(frame: Json, unwanted: readonly string[]): Json {
    const thin = without(frame, unwanted)
    const { choices } = frame
    if (!Array.isArray(choices)) return thin
    const all: unknown[] = choices
    return {
      ...thin,
      choices: all.map((choice) => (isObject(choice) ? without(choice, this.#ids) : choice)),
    }
  }
}

/** Null says no more than nothing does. */
const without = (part: Json, names: readonly string[]): Json =>
  Object.fromEntries(
    Object.entries(part).filter(([name, value]) => value !== null && !names.includes(name)),
  )
