import { stirred } from '../../durable-objects/scheduling/hashing.ts'
import {
  BYTES_PER_TOKEN,
  HASH_BYTES,
  MAX_BLOCKS,
  tokensThrough,
} from '../../durable-objects/scheduling/blocks.ts'

/**
 * Hashes a prompt while it is read, and writes one hash down at the end of each block. The state is
 * never reset, so a block's hash covers everything before its end: equal hashes mean equal prefixes.
 *
 * Two 32-bit lanes, each `(rotate(state) ^ unit) * constant` for every UTF-16 unit (FxHash of Firefox
 * and rustc, with a rotation and a constant of its own for each lane); a block's hash is both lanes
 * through the finaliser of MurmurHash3 (Appleby, public domain), each mixed with the other. About
 * 5 ns a unit. Not cryptographic: whoever knows the seed can make two prompts collide, and has then
 * misled the choice of an instance for prompts of his own.
 *
 * Besides text there are marks, which no text can contain, so that "ab" + "c" is not "a" + "bc".
 */
export class BlockHasher {
  readonly #hashes = new Uint8Array(MAX_BLOCKS * HASH_BYTES)
  readonly #view = new DataView(this.#hashes.buffer)
  #a = 0x243f6a88
  #b = 0x85a308d3
  #blocks = 0
  #bytes = 0
  /** Where the block ends that is being read, in bytes from the prompt's start. */
  #end = endOf(0)

  /** No more blocks are to be had: whatever follows makes no difference. */
  get full(): boolean {
    return this.#blocks === MAX_BLOCKS
  }

  /** The hashes of all whole blocks so far. */
  get hashes(): Uint8Array<ArrayBuffer> {
    return this.#hashes.slice(0, this.#blocks * HASH_BYTES)
  }

  /** Text that becomes tokens. */
  text(text: string): void {
    let [a, b, i] = [this.#a, this.#b, 0]
    while (i < text.length && !this.full) {
      // So far that no block can end before it: nothing need be compared within.
      const from = i
      const certain = Math.max(1, Math.floor((this.#end - this.#bytes) / MOST_BYTES))
      const stop = Math.min(text.length, from + certain)
      let more = 0
      for (; i < stop; i++) {
        const unit = text.charCodeAt(i)
        a = Math.imul(((a << 5) | (a >>> 27)) ^ unit, A)
        b = Math.imul(((b << 13) | (b >>> 19)) ^ unit, B)
        if (unit > 0x7f) more += unit < 0x800 || (unit & 0xf800) === SURROGATE ? 1 : 2
      }
      this.#a = a
      this.#b = b
      this.#close(this.#bytes + stop - from + more)
    }
  }

  /** A token whose id is known, or a mark (from {@link MARK} on): one token. */
  token(id: number): void {
    this.#absorb(id)
    this.skip(1)
  }

  /**
   * What makes a difference and is not read as text. Of something long, a sample: two pictures
   * differ in length, or in what comes after the first difference, as compressed data does.
   */
  aside(text: string): void {
    this.#absorb(MARK + text.length)
    const step = Math.max(1, Math.floor(text.length / SAMPLES))
    for (let i = 0; i < text.length; i += step) this.#absorb(text.charCodeAt(i))
    // A PNG ends with a checksum of all its pixels.
    for (let i = Math.max(0, text.length - TAIL); i < text.length; i++) {
      this.#absorb(text.charCodeAt(i))
    }
  }

  /** Tokens that are in the prompt without being text. */
  skip(tokens: number): void {
    this.#close(this.#bytes + tokens * BYTES_PER_TOKEN)
  }

  #absorb(unit: number): void {
    this.#a = Math.imul(((this.#a << 5) | (this.#a >>> 27)) ^ unit, A)
    this.#b = Math.imul(((this.#b << 13) | (this.#b >>> 19)) ^ unit, B)
  }

  /** Writes down the blocks that end at or before this byte; a picture may be longer than a block. */
  #close(bytes: number): void {
    this.#bytes = bytes
    while (bytes >= this.#end && this.#blocks < MAX_BLOCKS) {
      const a = stirred(this.#a ^ Math.imul(this.#blocks + 1, B))
      const b = stirred(this.#b ^ a)
      this.#view.setUint32(this.#blocks * HASH_BYTES, stirred(a + b), true)
      this.#view.setUint32(this.#blocks * HASH_BYTES + HASH_BYTES / 2, b, true)
      this.#blocks++
      this.#end = endOf(this.#blocks)
    }
  }
}

/** No UTF-16 unit is as large. */
export const MARK = 0x10000

const A = 0x9e3779b1
const B = 0x85ebca77

/** First of the units that stand for half a character, and UTF-8 bytes of a unit at most. */
const SURROGATE = 0xd800
const MOST_BYTES = 3

/** Characters of a long text that are looked at: so many or up to twice as many throughout, and these at its end. */
const SAMPLES = 1_024
const TAIL = 64

const endOf = (block: number): number => tokensThrough(block + 1) * BYTES_PER_TOKEN
