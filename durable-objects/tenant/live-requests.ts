import type { Claim } from './contract.ts'
import type { Need, Part } from './limits.ts'

/** One request's part of the allowance, for as long as it is live. */
export interface LiveRequest {
  readonly request: string
  /** The key's id, or `jwt`. */
  readonly key: string
  readonly claim: Claim
  /** When it was admitted, Unix milliseconds. */
  readonly at: number
  /** The same, as the clock that minutes go by has it. */
  readonly countedAt: number
  /** What is reserved for it: in whole, and in each minute. */
  readonly need: Need
  readonly parts: readonly Part[]
  /** Unix milliseconds; after this nobody can still be using it. */
  readonly expiresAt: number
  /** It must end. */
  dismissed: boolean
  /** Resolves then, or when it has ended. Null before somebody waits. */
  dismissal: PromiseWithResolvers<void> | null
}

/**
 * Requests that run. The map of live ones *is* the count of them, and a reservation is gone with its
 * request: neither can stay behind (L32).
 */
export class LiveRequests {
  readonly #live = new Map<string, LiveRequest>()
  /** Tokens of all reservations. */
  #reserved = 0
  /** No live one expires before. */
  #firstExpiry = Infinity

  get size(): number {
    return this.#live.size
  }

  /** Tokens that live requests will probably use. */
  get reserved(): number {
    return this.#reserved
  }

  get(request: string): LiveRequest | undefined {
    return this.#live.get(request)
  }

  add(held: LiveRequest): void {
    this.#live.set(held.request, held)
    this.#reserved += tokensOf(held)
    this.#firstExpiry = Math.min(this.#firstExpiry, held.expiresAt)
  }

  /** Takes one out. False: it was out before, or another request of that id has taken its place. */
  remove(held: LiveRequest): boolean {
    if (this.#live.get(held.request) !== held) return false
    this.#live.delete(held.request)
    this.#reserved -= tokensOf(held)
    held.dismissal?.resolve() // whoever waits for it has nothing more to wait for
    return true
  }

  /** Pending until it must end, or has ended. */
  dismissal(held: LiveRequest): Promise<void> {
    held.dismissal ??= Promise.withResolvers()
    if (held.dismissed || this.#live.get(held.request) !== held) held.dismissal.resolve()
    return held.dismissal.promise
  }

  /** Tells those of a key, or all, to end. @returns how many */
  dismiss(key: string | null): number {
    let told = 0
    for (const held of this.#live.values()) {
      if (key !== null && held.key !== key) continue
      held.dismissed = true
      held.dismissal?.resolve()
      told++
    }
    return told
  }

  /** Those whose time is over, should a machine have vanished without a word (L05). */
  overdue(now: number): readonly LiveRequest[] {
    if (now < this.#firstExpiry) return []
    const live = [...this.#live.values()]
    const over = live.filter(({ expiresAt }) => expiresAt <= now)
    const others = live.filter(({ expiresAt }) => expiresAt > now)
    this.#firstExpiry = others.reduce(
      (first, { expiresAt }) => Math.min(first, expiresAt),
      Infinity,
    )
    return over
  }
}

const tokensOf = ({ need }: LiveRequest): number => need.prompt + need.output
