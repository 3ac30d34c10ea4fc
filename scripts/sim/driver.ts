import type { Engine } from './engine.ts'
import type { Sequence, SequenceSpec } from './sequence.ts'

/** Longest timer Node takes, in milliseconds. */
const LONGEST_TIMER_MS = 2_147_483_647

/**
 * In real time a burst would merge chunks that vLLM sends apart. Faster than that, a timer's tick
 * spans many tokens and only catching up keeps the pace.
 */
const patience = (scale: number): number => (scale > 1 ? 25 * scale : 0)

/** Drives an {@link Engine} by the wall clock: one timer for all its sequences. */
export class Driver {
  readonly engine: Engine
  readonly #wallNow: () => number
  #scale: number
  /** Simulated and wall time at the last change of speed. */
  #simAt = 0
  #wallAt: number
  #timer: ReturnType<typeof setTimeout> | undefined
  #timerAt = Infinity
  #frozen = false
  #advancing = false
  #stopped = false

  /**
   * @param scale simulated seconds per real second
   * @param wallNow real milliseconds, monotonic
   */
  constructor(engine: Engine, scale: number, wallNow: () => number) {
    this.engine = engine
    this.#scale = scale
    this.#wallNow = wallNow
    this.#wallAt = wallNow()
    engine.patienceMs = patience(scale)
  }

  get timeScale(): number {
    return this.#scale
  }

  /** Simulated milliseconds since the start; stands still while frozen. */
  now(): number {
    if (this.#frozen) return this.#simAt
    return this.#simAt + (this.#wallNow() - this.#wallAt) * this.#scale
  }

  setTimeScale(scale: number): void {
    this.#rebase()
    this.#scale = scale
    this.engine.patienceMs = patience(scale)
    this.#arm()
  }

  /** Stops or restarts the engine's time; while frozen nothing is admitted and nothing yielded. */
  setFrozen(frozen: boolean): void {
    this.#rebase()
    this.#frozen = frozen
    this.#arm()
  }

  submit(spec: SequenceSpec): Sequence {
    return this.engine.submit(spec, this.now())
  }

  abort(sequence: Sequence): void {
    this.engine.abort(sequence, this.now())
    this.#arm()
  }

  /** Lets a sequence stand still in its place. */
  hold(sequence: Sequence): void {
    this.engine.hold(sequence)
  }

  /** Lets a sequence go on whose output has grown, or will not grow any more. */
  resume(sequence: Sequence): void {
    this.engine.resume(sequence, this.now())
    this.kick()
  }

  /** Does what is due and sets the timer; call it after {@link submit}. */
  kick(): void {
    if (this.#frozen || this.#advancing) return
    this.#advancing = true
    this.engine.advance(this.now())
    this.#advancing = false
    this.#arm()
  }

  /** For good: no timer keeps the process alive after this. */
  stop(): void {
    this.#stopped = true
    this.#disarm()
  }

  #disarm(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#timerAt = Infinity
  }

  #rebase(): void {
    this.#simAt = this.now()
    this.#wallAt = this.#wallNow()
    this.#disarm()
  }

  #arm(): void {
    const next = this.engine.nextAt
    if (this.#stopped || this.#frozen || next === null || this.#advancing) return
    if (this.#timer !== undefined && this.#timerAt <= next) return
    clearTimeout(this.#timer)
    this.#timerAt = next
    const delay = Math.max(0, Math.ceil((next - this.now()) / this.#scale))
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#timerAt = Infinity
        this.kick()
      },
      Math.min(LONGEST_TIMER_MS, delay),
    )
  }
}
