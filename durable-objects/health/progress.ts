import type { Gauges } from './vllm-metrics.ts'

/** An engine that has stood still for less than this may be within one long step, in milliseconds. */
const STILL_MS = 3_000
/** An engine that has just answered a small request is believed for this long, in milliseconds. */
const BELIEVED_MS = 30_000

/** What two readings in a row say of an engine. */
export type Motion =
  /** Something has moved, or it has nothing to do. */
  | 'moving'
  /** It has work and nothing moves. */
  | 'still'
  /** Work of ours is there, but it says that it has none: a slow reader's, or it froze while idle. */
  | 'idle'
  /** It was found frozen, and has not moved since. */
  | 'frozen'
  /** Another process answers: its counters begin anew, or it says that it started at another time. */
  | 'restarted'
  /** The page does not carry the counters. */
  | 'unknown'

/** What says that an engine has work, and what must move while it does. */
type Figures = Pick<
  Gauges,
  'running' | 'waiting' | 'kvUse' | 'generationTokens' | 'promptTokens' | 'iterations'
>

/** What is kept of a frozen engine, so that a new life of the object does not believe it at once. */
export type FrozenAt = Figures

/**
 * Whether one engine gets on with its work. `/health` says 200 as long as the API server lives, and a
 * frozen engine's gauges stay at their last values: what it generates standing still while it has
 * work is the sign (L07). A long prefill is none: its chunks fill the KV cache step by step.
 */
export class Progress {
  #last: Figures | null = null
  /** Since when all readings were alike, in Unix milliseconds. */
  #since = 0
  #believedUntil = -Infinity
  #frozenAt: FrozenAt | null = null
  /** When its process started; null as long as it has not said so. */
  #startedAt: number | null = null

  /**
   * @param now          Unix milliseconds
   * @param workingSince when the oldest request of ours was sent there that has not ended; null for none.
   *                     An engine that froze while idle never says that it has work.
   */
  see(gauges: Gauges, now: number, workingSince: number | null): Motion {
    const last = this.#last
    const { startedAt } = gauges
    // The one before may never have generated anything: then no counter tells them apart.
    const replaced = differ(startedAt, this.#startedAt)
    this.#startedAt = startedAt ?? this.#startedAt
    // Work that has come since the last reading has its time from now on.
    const alike = last !== null && isAlike(last, gauges) && (busy(last) || !busy(gauges))
    if (replaced) this.#frozenAt = null
    if (this.#frozenAt) {
      if (isAlike(this.#frozenAt, gauges)) return busy(gauges) ? 'frozen' : 'moving'
      this.#frozenAt = null
    }
    // A clock that was put back must not make it wait for longer than once.
    if (!alike || replaced || now < this.#since) {
      this.#last = figuresOf(gauges)
      this.#since = now
    }
    if (replaced) return 'restarted'
    if (gauges.generationTokens === null) return 'unknown'
    if (last && isYounger(gauges, last)) return 'restarted'
    const since = busy(gauges) ? this.#since : this.#sinceOf(workingSince, now)
    if (!alike || since === null || now - since < STILL_MS) return 'moving'
    const believed = now < this.#believedUntil && this.#believedUntil - now <= BELIEVED_MS
    if (believed) return 'moving'
    return busy(gauges) ? 'still' : 'idle'
  }

  /** Since when it should have moved, though it says that it has nothing to do; null where it need not. */
  #sinceOf(workingSince: number | null, now: number): number | null {
    if (workingSince === null) return null
    // Work from before the clock was put back has been there all the time.
    return workingSince > now ? this.#since : Math.max(this.#since, workingSince)
  }

  /** Whether anything has moved since the last reading. */
  hasMoved(gauges: Gauges): boolean {
    return this.#last !== null && !isAlike(this.#last, gauges)
  }

  /** It answered after all, or nobody could ask it: not asked again at once. */
  acquit(now: number): void {
    this.#believedUntil = now + BELIEVED_MS
    this.#last = null
  }

  convict(): void {
    this.#frozenAt = this.#last
  }

  get frozenAt(): FrozenAt | null {
    return this.#frozenAt
  }

  restore(frozenAt: FrozenAt): void {
    this.#frozenAt = frozenAt
  }
}

const busy = ({ running, waiting }: Figures): boolean => (running ?? 0) + (waiting ?? 0) > 0

/** Requests coming and going are no progress: an engine may die with its front still counting them. */
const isAlike = (a: Figures, b: Figures): boolean =>
  a.generationTokens === b.generationTokens &&
  a.promptTokens === b.promptTokens &&
  a.iterations === b.iterations &&
  a.kvUse === b.kvUse

const differ = (a: number | null, b: number | null): boolean => a !== null && b !== null && a !== b

const isLess = (a: number | null, b: number | null): boolean => a !== null && b !== null && a < b

const isYounger = (now: Figures, before: Figures): boolean =>
  isLess(now.generationTokens, before.generationTokens) ||
  isLess(now.promptTokens, before.promptTokens)

const figuresOf = ({
  running,
  waiting,
  kvUse,
  generationTokens,
  promptTokens,
  iterations,
}: Gauges): Figures => ({ running, waiting, kvUse, generationTokens, promptTokens, iterations })
