import { interTokenMs, prefillMs, type CostProfile } from '../../scripts/sim/cost-model.ts'
import { BLOCK_TOKENS } from '../../scripts/sim/kv-cache.ts'
import { KvBlocks, type Holding } from './kv.ts'
import type { Arrival } from './workloads.ts'

/** What a request's owner is told. */
export interface Listener {
  readonly started: () => void
  readonly finished: (cachedTokens: number) => void
}

/** A request on its way through an engine. Times in milliseconds. */
export interface Sequence {
  readonly arrival: Arrival
  readonly listener: Listener
  holding: Holding | null
  /** When its prompt occupies the engine. */
  workFrom: number
  workTo: number
  /** Where its first and its last token are on the engine's count of tokens (see {@link Engine}). */
  startsAt: number
  endsAt: number
}

export interface EngineOptions {
  readonly profile: CostProfile
  /** Times slower than the profile says. */
  readonly slowness: number
  /** Room for so many tokens of KV. */
  readonly kvTokens: number
  /** Different blocks that there are in the workload. */
  readonly blocks: number
}

/**
 * The simulator's engine (`scripts/sim/engine.ts`) for virtual time: the same queue, prefill in turn, KV cache
 * and cost model, but no event for each token. All running answers grow at one pace, so one count of
 * tokens tells where each of them is: an answer of n tokens ends when the count has grown by n − 1.
 */
export class Engine {
  readonly #options: EngineOptions
  readonly #kv: KvBlocks
  readonly #waiting: Sequence[] = []
  /** In the order of their work. */
  readonly #prefill: Sequence[] = []
  readonly #decode: Sequence[] = []
  #now = 0
  /** Tokens that an answer would have got that was being written all the time. */
  #count = 0
  #promptTokens = 0
  #writtenTokens = 0
  /** When something is next due, in milliseconds; Infinity while there is nothing to do. */
  nextAt = Infinity

  constructor(options: EngineOptions) {
    this.#options = options
    this.#kv = new KvBlocks(options.kvTokens / BLOCK_TOKENS, options.blocks)
  }

  get running(): number {
    return this.#prefill.length + this.#decode.length
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Tokens since the start: of prompts that are through, and of answers. */
  get promptTokens(): number {
    return this.#promptTokens
  }

  get writtenTokens(): number {
    let written = this.#writtenTokens
    for (const { startsAt } of this.#decode) written += 1 + Math.floor(this.#count - startsAt)
    return written
  }

  /** Share of KV blocks in use; a prompt's are taken up as it is read. */
  get kvUse(): number {
    let unread = 0
    for (const { workFrom, workTo, arrival, holding } of this.#prefill) {
      const left = workTo > workFrom ? (workTo - this.#now) / (workTo - workFrom) : 0
      const uncached = arrival.promptTokens - (holding?.cachedTokens ?? 0)
      unread += Math.min(1, Math.max(0, left)) * uncached
    }
    return Math.max(0, this.#kv.usage - unread / this.#options.kvTokens)
  }

  submit(now: number, arrival: Arrival, listener: Listener): Sequence {
    const sequence: Sequence = {
      arrival,
      listener,
      holding: null,
      workFrom: Infinity,
      workTo: Infinity,
      startsAt: 0,
      endsAt: 0,
    }
    this.advance(now)
    this.#waiting.push(sequence)
    if (this.#waiting.length === 1) this.#admit() // else somebody before it has found no room
    this.#schedule()
    return sequence
  }

  abort(now: number, sequence: Sequence): void {
    this.advance(now)
    this.#leave(sequence, sequence.arrival.blocks.subarray(0, 0))
    this.#admit()
    this.#schedule()
  }

  /** Does everything that is due by `now`. */
  advance(now: number): void {
    while (this.nextAt <= now) {
      this.#moveTo(this.nextAt)
      this.#endPrefills()
      if (this.#endAnswers()) this.#admit()
      this.#schedule()
    }
    this.#moveTo(now)
  }

  /**
   * When a request would get its first token if it came now; what only an oracle can ask. Where the KV
   * cache is full it waits until enough of those that run have ended, at today's pace.
   */
  firstTokenAt(now: number, { blocks, promptTokens, outputTokens }: Arrival): number {
    const { profile, slowness } = this.#options
    const cached = this.#kv.cachedTokens(blocks, promptTokens)
    const freeAt = Math.max(now, this.#prefill.at(-1)?.workTo ?? 0)
    const work = prefillMs(profile, promptTokens - cached) * slowness
    let missing = (this.#kv.usage - 1) * this.#options.kvTokens
    missing += promptTokens + outputTokens - cached
    let ahead = 0
    for (const { arrival } of this.#waiting) {
      missing += arrival.promptTokens + arrival.outputTokens
      ahead += prefillMs(profile, arrival.promptTokens) * slowness
    }
    let roomAt = now
    for (const { arrival, endsAt } of this.#decode.toSorted((a, b) => a.endsAt - b.endsAt)) {
      if (missing <= 0) break
      missing -= arrival.promptTokens + arrival.outputTokens
      roomAt = now + (endsAt - this.#count) * this.#stepMs
    }
    return Math.max(freeAt, roomAt) + ahead + work + profile.ttftBaseMs
  }

  get #stepMs(): number {
    const { profile, slowness } = this.#options
    return interTokenMs(profile, this.running) * slowness
  }

  #moveTo(now: number): void {
    if (now <= this.#now) return
    if (this.#decode.length > 0) this.#count += (now - this.#now) / this.#stepMs
    this.#now = now
  }

  #firstTokenOf({ workTo }: Sequence): number {
    return workTo + this.#options.profile.ttftBaseMs // latency, not work: the next prompt goes on
  }

  #endPrefills(): void {
    for (let first = this.#prefill[0]; first; first = this.#prefill[0]) {
      if (this.#firstTokenOf(first) > this.#now) return
      this.#prefill.shift()
      this.#decode.push(first)
      first.startsAt = this.#count
      first.endsAt = this.#count + first.arrival.outputTokens - 1
      this.#promptTokens += first.arrival.promptTokens
      first.listener.started()
    }
  }

  /** @returns whether there may be room now */
  #endAnswers(): boolean {
    // What rounding leaves of a token is none.
    const due = this.#decode.filter(({ endsAt }) => endsAt <= this.#count + 1e-6)
    for (const sequence of due) {
      const { arrival, holding, listener } = sequence
      this.#leave(sequence, arrival.blocks)
      this.#writtenTokens += arrival.outputTokens
      listener.finished(holding?.cachedTokens ?? 0)
    }
    return due.length > 0
  }

  #admit(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      const { blocks, promptTokens, outputTokens } = first.arrival
      first.holding = this.#kv.reserve(blocks, promptTokens, promptTokens + outputTokens)
      if (first.holding === null) return
      this.#waiting.shift()
      this.#prefill.push(first)
    }
  }

  #schedule(): void {
    const { profile, slowness } = this.#options
    let freeAt = this.#now
    for (const sequence of this.#prefill) {
      if (sequence.workFrom >= this.#now) {
        const uncached = sequence.arrival.promptTokens - (sequence.holding?.cachedTokens ?? 0)
        sequence.workFrom = freeAt
        sequence.workTo = freeAt + prefillMs(profile, uncached) * slowness
      }
      freeAt = Math.max(freeAt, sequence.workTo)
    }
    let nextAt = this.#prefill[0] ? this.#firstTokenOf(this.#prefill[0]) : Infinity
    let end = Infinity
    for (const { endsAt } of this.#decode) if (endsAt < end) end = endsAt
    nextAt = Math.min(nextAt, this.#now + Math.max(0, end - this.#count) * this.#stepMs)
    this.nextAt = nextAt
  }

  /** @param computed blocks whose KV is whole */
  #leave(sequence: Sequence, computed: Int32Array): void {
    for (const list of [this.#waiting, this.#prefill, this.#decode]) {
      const at = list.indexOf(sequence)
      if (at !== -1) list.splice(at, 1)
    }
    if (sequence.holding) this.#kv.release(sequence.holding, computed)
    sequence.holding = null
  }
}
