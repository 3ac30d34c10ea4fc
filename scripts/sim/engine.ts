/**
 * A continuous-batching engine without a GPU: pure bookkeeping over a clock that the caller moves.
 *
 * A request waits until a sequence slot and enough KV blocks are free (first come, first served),
 * then its uncached prompt tokens are prefilled, one prompt after another, then it yields a token
 * each inter-token time, which grows with the number of running requests. Nothing here sleeps:
 * {@link Engine.advance} does all that is due, {@link Engine.nextAt} says when to call it again.
 */
import { interTokenMs, prefillMs, type CostProfile } from './cost-model.ts'
import { DueQueue } from './due-queue.ts'
import { EngineStats } from './engine-stats.ts'
import { BLOCK_TOKENS, blockHashes, KvCache } from './kv-cache.ts'
import type { Sequence, SequenceSpec } from './sequence.ts'

export interface EngineOptions {
  readonly profile: CostProfile
  readonly maxNumSeqs: number
  readonly kvBlocks: number
  readonly maxModelLen: number
}

export class Engine {
  profile: CostProfile
  maxNumSeqs: number
  readonly kv: KvCache
  readonly stats: EngineStats
  /** Inter-token time is multiplied by this (the `slow` fault). */
  slowness = 1
  /**
   * A token later than this goes on from now rather than catching up in a burst (never less than
   * one inter-token time). Infinity keeps to the schedule: for clocks that jump.
   */
  patienceMs = Infinity
  #now = 0
  readonly #waiting = new Set<Sequence>()
  readonly #running = new Set<Sequence>()
  /** Sequences without a first token yet, in the order of their prefill. */
  readonly #prefill = new Set<Sequence>()
  readonly #due = new DueQueue<Sequence>()

  constructor(options: EngineOptions) {
    this.profile = options.profile
    this.maxNumSeqs = options.maxNumSeqs
    this.kv = new KvCache(options.kvBlocks)
    this.stats = new EngineStats(options.maxModelLen)
  }

  get running(): number {
    return this.#running.size
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /**
   * Share of KV blocks in use, as a real server's gauge says it: a prompt's blocks are taken up as it is
   * read, chunk by chunk, while the reservation here is made at once.
   * @param now simulated milliseconds
   */
  kvUsageAt(now: number): number {
    let unread = 0
    for (const { workFrom, workTo, spec, cachedTokens } of this.#prefill) {
      const left = workTo > workFrom ? (workTo - now) / (workTo - workFrom) : 0
      unread += Math.min(1, Math.max(0, left)) * (spec.prompt.length - cachedTokens)
    }
    return Math.max(0, this.kv.usage - unread / BLOCK_TOKENS / this.kv.blocks)
  }

  /** Simulated milliseconds at which something is next due; null while there is nothing to do. */
  get nextAt(): number | null {
    return this.#due.nextAt
  }

  /** Puts a sequence into the queue. Call {@link advance} for it to be admitted. */
  submit(spec: SequenceSpec, now: number): Sequence {
    const sequence: Sequence = {
      spec,
      state: 'waiting',
      dueAt: Infinity,
      workFrom: Infinity,
      workTo: Infinity,
      generated: 0,
      arrivedAt: now,
      admittedAt: 0,
      firstTokenAt: 0,
      lastTokenAt: 0,
      holding: null,
      cachedTokens: 0,
    }
    this.#waiting.add(sequence)
    return sequence
  }

  /** Takes a sequence out at once, wherever it stands, and frees its blocks. */
  abort(sequence: Sequence, now: number): void {
    if (sequence.state === 'ended') return
    this.#now = Math.max(this.#now, now)
    // As on a real server, an abort is not counted under finished_reason="abort".
    this.#leave(sequence)
    this.#admit()
  }

  /** Lets a sequence stand still: it keeps its place and its blocks and yields nothing more. */
  hold(sequence: Sequence): void {
    if (sequence.state !== 'ended') sequence.dueAt = Infinity
  }

  /** Lets a sequence go on that waits at the end of its output. */
  resume(sequence: Sequence, now: number): void {
    if (sequence.state !== 'decode' || sequence.dueAt !== Infinity) return
    sequence.dueAt = now + interTokenMs(this.profile, this.#running.size) * this.slowness
    this.#due.push(sequence)
  }

  /** Does everything that is due by `now`. */
  advance(now: number): void {
    this.#now = Math.max(this.#now, now)
    this.#admit()
    let tokens = 0
    for (;;) {
      const entry = this.#due.popDue(this.#now)
      if (entry === null) break
      // An entry is stale when its sequence has ended or was rescheduled.
      if (entry.item.state === 'ended' || entry.item.dueAt !== entry.at) continue
      tokens += this.#yield(entry.item)
    }
    if (tokens > 0) this.stats.iterationTokens.observe(tokens)
  }

  #admit(): void {
    let admitted = false
    for (const sequence of this.#waiting) {
      if (this.#running.size >= this.maxNumSeqs) break
      const { prompt, salt, output } = sequence.spec
      const hashes = blockHashes(prompt, salt)
      const holding = this.kv.reserve(hashes, prompt.length, prompt.length + output.length)
      if (holding === null) break
      this.#waiting.delete(sequence)
      this.#running.add(sequence)
      sequence.holding = holding
      sequence.cachedTokens = holding.cachedTokens
      sequence.admittedAt = this.#now
      sequence.state = 'prefill'
      this.stats.prefixQueries += prompt.length
      this.stats.prefixHits += holding.cachedTokens
      this.#prefill.add(sequence)
      admitted = true
    }
    if (admitted) this.#schedulePrefill()
  }

  /**
   * Lays out the prefill work in turn: what has begun goes on, the rest follows without a gap.
   * The fixed part of TTFT is latency, not work, so it does not keep the next prompt waiting.
   */
  #schedulePrefill(): void {
    let freeAt = this.#now
    for (const sequence of this.#prefill) {
      if (sequence.workFrom >= this.#now) {
        const uncached = sequence.spec.prompt.length - sequence.cachedTokens
        sequence.workFrom = freeAt
        sequence.workTo = freeAt + prefillMs(this.profile, uncached) * this.slowness
        const late = sequence.spec.delayMs ?? 0
        const dueAt = sequence.workTo + this.profile.ttftBaseMs + late
        if (dueAt !== sequence.dueAt) {
          sequence.dueAt = dueAt
          this.#due.push(sequence)
        }
      }
      freeAt = Math.max(freeAt, sequence.workTo)
    }
  }

  /** Yields what is due of one sequence. @returns tokens processed, prompt included */
  #yield(sequence: Sequence): number {
    const { spec } = sequence
    const isFirst = sequence.state === 'prefill'
    const due = sequence.dueAt
    if (isFirst) this.#endPrefill(sequence)
    const step = interTokenMs(this.profile, this.#running.size) * this.slowness
    const from = sequence.generated
    const to = Math.min(step > 0 ? from + 1 : Infinity, spec.output.length)
    sequence.generated = to
    if (to > from) this.#count(sequence, due, isFirst, to - from)
    if (to >= spec.output.length && spec.isOpen?.() === true) {
      sequence.dueAt = Infinity
    } else if (to >= spec.output.length) {
      this.#finish(sequence)
    } else {
      const late = this.#now - due
      sequence.dueAt = late > Math.max(step, this.patienceMs) ? this.#now + step : due + step
      this.#due.push(sequence)
    }
    if (to > from) spec.onTokens(from, to)
    return to - from + (isFirst ? spec.prompt.length : 0)
  }

  #endPrefill(sequence: Sequence): void {
    sequence.state = 'decode'
    sequence.firstTokenAt = sequence.dueAt
    sequence.lastTokenAt = sequence.dueAt
    this.#prefill.delete(sequence)
  }

  #count(sequence: Sequence, at: number, isFirst: boolean, tokens: number): void {
    const { stats } = this
    stats.generationTokens += tokens
    if (isFirst) {
      const cached = sequence.cachedTokens
      stats.promptTokens += sequence.spec.prompt.length
      stats.cachedTokens += cached
      stats.ttft.observe((at - sequence.arrivedAt) / 1000)
      if (tokens > 1) stats.interToken.observe(0, tokens - 1)
    } else {
      stats.interToken.observe((at - sequence.lastTokenAt) / 1000 / tokens, tokens)
    }
    sequence.lastTokenAt = at
  }

  #finish(sequence: Sequence): void {
    const { stats } = this
    const { spec, arrivedAt, admittedAt, firstTokenAt, lastTokenAt } = sequence
    const cached = sequence.cachedTokens
    this.#leave(sequence)
    stats.finished[spec.finish]++
    stats.requestPromptTokens.observe(spec.prompt.length)
    stats.requestGenerationTokens.observe(spec.output.length)
    stats.maxGenerationTokens.observe(spec.output.length)
    stats.paramsN.observe(spec.n)
    stats.paramsMaxTokens.observe(spec.maxTokens)
    stats.e2e.observe((lastTokenAt - arrivedAt) / 1000)
    stats.queueTime.observe((admittedAt - arrivedAt) / 1000)
    stats.inferenceTime.observe((lastTokenAt - admittedAt) / 1000)
    stats.prefillTime.observe((firstTokenAt - admittedAt) / 1000)
    stats.decodeTime.observe((lastTokenAt - firstTokenAt) / 1000)
    const later = Math.max(1, spec.output.length - 1)
    stats.timePerOutputToken.observe((lastTokenAt - firstTokenAt) / 1000 / later)
    stats.preemptions.observe(0)
    stats.prefillComputed.observe(spec.prompt.length - cached)
    this.#admit()
  }

  #leave(sequence: Sequence): void {
    this.#waiting.delete(sequence)
    this.#running.delete(sequence)
    const { holding, spec, generated } = sequence
    const wasPrefilling = sequence.state === 'prefill'
    sequence.state = 'ended'
    if (holding !== null) {
      sequence.holding = null
      const computed = wasPrefilling ? [] : spec.prompt.concat(spec.output.slice(0, generated))
      this.kv.release(holding, blockHashes(computed, spec.salt))
    }
    if (this.#prefill.delete(sequence)) this.#schedulePrefill()
  }
}
