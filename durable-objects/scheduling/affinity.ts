import { decodeDump, encodeDump } from './affinity-dump.ts'
import { blocksOf, HASH_BYTES } from './blocks.ts'
import { Holdings, type Holder } from './holdings.ts'
import { NONE } from './pair-table.ts'

/** Holdings that a pool's index keeps unless told otherwise: some 8 MB when full. */
export const AFFINITY_CAPACITY = 131_072

/** Bytes of a dump at most: half of what one value in a Durable Object's storage may have. */
const DUMP_BYTES = 1024 * 1024

/** Bits of one word in a block's set of holders. */
const WORD = 32

/**
 * Which instance probably has which prompt's blocks in its prefix cache.
 *
 * Made from what was sent where, not from what an engine says: vLLM's own events stay inside the
 * site. It follows vLLM's rule, least recently used out, a prompt's tail before its head, within a
 * hard cap (L18). So each instance's holdings are closed under "what comes before": whoever holds a
 * block holds all before it.
 *
 * A hash has 64 bits and is seeded with the tenant's secret salt. Should two prompts share one all
 * the same, an instance is preferred for nothing: a slower first token, never a wrong answer.
 */
export class AffinityIndex {
  readonly #capacity: number
  readonly #holdings: Holdings
  readonly #byName = new Map<string, Holder>()
  /** By slot; a forgotten holder's slot is free for another once its holdings are gone. */
  readonly #bySlot: (Holder | undefined)[] = []
  #uses = 0
  /** Whose holding went last, and the number of its last use. */
  #giver: Holder | undefined
  #givenUse = 0

  /** @param capacity holdings at most; a block that two instances hold counts twice */
  constructor({ capacity }: { readonly capacity: number }) {
    this.#capacity = Math.max(1, capacity)
    this.#holdings = new Holdings(this.#capacity + 1)
  }

  get size(): number {
    return this.#holdings.size
  }

  /** Everybody it knows, for whoever reads a dump of another fleet version. */
  get instances(): readonly string[] {
    return [...this.#byName.keys()]
  }

  /**
   * @param prefix hashes of a prompt's blocks, first block first
   * @returns for each instance that probably holds any, how many in a row from the first
   */
  match(prefix: Uint8Array): ReadonlyMap<string, number> {
    const matches = new Map<string, number>()
    const { words } = this.#holdings
    const view = viewOf(prefix)
    const blocks = blocksOf(prefix)
    const holding: number[] = Array.from({ length: words }, () => -1)
    let depth = 0
    for (; depth < blocks; depth++) {
      const block = this.#find(view, depth)
      if (block === NONE) break
      let any = 0
      for (let word = 0; word < words; word++) {
        const before = holding[word] ?? 0
        const now = before & this.#holdings.holdersOf(block, word)
        if (now !== before && depth > 0) this.#report(matches, before & ~now, word, depth)
        holding[word] = now
        any |= now
      }
      if (any === 0) return matches
    }
    if (depth > 0) holding.forEach((bits, word) => this.#report(matches, bits, word, depth))
    return matches
  }

  /** The instance was given this prompt, so it will hold all of its blocks. */
  note(prefix: Uint8Array, instance: string): void {
    this.#hold(this.#holder(instance), 0, viewOf(prefix), blocksOf(prefix))
  }

  /** It has restarted, or left the fleet: it holds nothing, and its limit is not known. */
  forget(instance: string): void {
    const holder = this.#byName.get(instance)
    if (holder === undefined) return
    while (holder.oldest !== NONE) this.#holdings.dropOldest(holder)
    this.#byName.delete(instance)
    this.#bySlot[holder.slot] = undefined
  }

  /**
   * What its KV cache has room for; beyond that its least recently used blocks are gone.
   * @param tokens null: not known
   */
  limit(instance: string, tokens: number | null): void {
    const holder = this.#holder(instance)
    holder.limit = tokens ?? Infinity
    this.#keepLimit(holder)
  }

  /** Its most recently used part, for {@link AffinityIndex.restore}; at most 1 MiB. */
  dump(): Uint8Array<ArrayBuffer> {
    return encodeDump(this.#holdings.runs([...this.#byName.values()]), DUMP_BYTES)
  }

  /**
   * The index that a dump was made of, as far as it went and fits. Limits are not part of it.
   * @param bytes anything: what is no dump, or a damaged one, makes an empty index (L20)
   */
  static restore(bytes: Uint8Array, options: { readonly capacity: number }): AffinityIndex {
    const index = new AffinityIndex(options)
    // Oldest first, so that the order of use comes out as it was.
    for (const { name, start, hashes } of decodeDump(bytes).toReversed()) {
      const view = new DataView(new ArrayBuffer(hashes.length * (HASH_BYTES / 2)))
      hashes.forEach((half, at) => view.setUint32(at * (HASH_BYTES / 2), half, true))
      index.#hold(index.#holder(name), start, view, hashes.length / 2)
    }
    return index
  }

  /** @param start index within its prompt of the first of the blocks */
  #hold(holder: Holder, start: number, hashes: DataView, blocks: number): void {
    this.#uses++
    // Last block first, so that a prompt loses its tail before its head.
    for (let block = blocks - 1; block >= 0; block--) {
      const low = hashes.getInt32(block * HASH_BYTES, true)
      const high = hashes.getInt32(block * HASH_BYTES + 4, true)
      this.#holdings.use(holder, low, high, start + block, this.#uses)
      if (this.size > this.#capacity) this.#giveUp()
    }
    this.#keepLimit(holder)
  }

  #keepLimit(holder: Holder): void {
    while (holder.tokens > holder.limit) this.#holdings.dropOldest(holder)
  }

  /** Drops what nobody has used for longest, wherever it is. */
  #giveUp(): void {
    let oldest = this.#giver
    // A use has a number of its own: what is left of the last one given up goes before all others.
    if (oldest === undefined || oldest.oldestUse !== this.#givenUse) {
      for (const holder of this.#byName.values()) {
        if (oldest === undefined || holder.oldestUse < oldest.oldestUse) oldest = holder
      }
    }
    if (oldest === undefined) return
    this.#giver = oldest
    this.#givenUse = oldest.oldestUse
    this.#holdings.dropOldest(oldest)
  }

  #find(view: DataView, block: number): number {
    const at = block * HASH_BYTES
    return this.#holdings.find(view.getInt32(at, true), view.getInt32(at + 4, true))
  }

  #report(into: Map<string, number>, bits: number, word: number, depth: number): void {
    for (let left = bits; left !== 0; left &= left - 1) {
      const holder = this.#bySlot[word * WORD + 31 - Math.clz32(left & -left)]
      if (holder !== undefined) into.set(holder.name, depth)
    }
  }

  #holder(name: string): Holder {
    const known = this.#byName.get(name)
    if (known !== undefined) return known
    const free = this.#bySlot.indexOf(undefined)
    const slot = free === -1 ? this.#bySlot.length : free
    const holder = {
      name,
      slot,
      newest: NONE,
      oldest: NONE,
      oldestUse: Infinity,
      tokens: 0,
      limit: Infinity,
    }
    this.#holdings.admit(slot)
    this.#byName.set(name, holder)
    this.#bySlot[slot] = holder
    return holder
  }
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
