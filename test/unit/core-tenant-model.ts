import { equal, ok, partialDeepStrictEqual } from 'node:assert/strict'
import type { Bill, Running } from '../../durable-objects/tenant/contract.ts'
import type { LiveRequest } from '../../durable-objects/tenant/live-requests.ts'
import { steadyClock } from '../../durable-objects/tenant/steady-clock.ts'
import { TenantWorld, key, runningOf, tokensOf } from './core-tenant-world.ts'

const MINUTE = 60_000
const TENANT = { rpm: 8, tpm: 400, concurrency: 5 }
const KEY = { rpm: 3, tpm: 150 }
const QUOTA = 1_000_000_000

export type Step =
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'ask'; readonly keyId: 'k' | 'small'; readonly in: number; readonly out: number }
  | { readonly do: 'end'; readonly which: number; readonly bill: Bill }
  | { readonly do: 'again'; readonly which: number; readonly bill: Bill | null }
  | { readonly do: 'sweep' | 'reset' | 'crash' | 'checkpoint' }

interface Counted {
  readonly at: number
  readonly key: string
  tokens: number
  requests: number
}

/** The account, and beside it everything that ever was, by the millisecond. */
export class Model {
  readonly world = new TenantWorld({
    plan: { ...TENANT, class: 'interactive', tokensPerMonth: QUOTA },
    keys: [key('k'), key('small', { limits: KEY })],
  })
  readonly steady = steadyClock(() => this.world.now)
  readonly live = new Map<LiveRequest, Counted>()
  /** Those whose reservation a reset has taken. */
  readonly orphans: { readonly running: Running; readonly entry: Counted }[] = []
  readonly log: Counted[] = []
  booked = 0
  /** Whether limits are kept to the last one: as long as no reset forgets anything. */
  readonly #exact: boolean

  constructor({ exact }: { readonly exact: boolean }) {
    this.#exact = exact
  }

  do(step: Step): void {
    const { world } = this
    switch (step.do) {
      case 'wait':
        world.now += step.ms
        break
      case 'ask':
        this.#ask(step.keyId, step.in, step.out)
        break
      case 'end': {
        const found = pick([...this.live], step.which)
        if (found) this.#end(found[0], found[1], step.bill)
        break
      }
      case 'again':
        this.#again(step.which, step.bill)
        break
      case 'sweep':
        this.sweep()
        break
      case 'checkpoint':
        world.checkpoint()
        break
      case 'reset':
        world.checkpoint()
        this.#crash()
        break
      case 'crash':
        this.#crash()
        break
    }
    this.steady()
    this.#check()
  }

  sweep(): void {
    const bookings = this.world.account.sweep()
    for (const booking of bookings) {
      this.world.ledger.book(booking)
      this.booked++
      for (const [held, entry] of this.live) {
        if (held.request !== booking.request) continue
        this.live.delete(held)
        this.#settle(entry, held.need.prompt)
      }
    }
  }

  /** Counts of the last sixty seconds. */
  sum(of: 'tokens' | 'requests', keys: readonly string[], now: number): number {
    const recent = this.log.filter(({ at, key }) => at > now - MINUTE && keys.includes(key))
    return recent.reduce((sum, entry) => sum + entry[of], 0)
  }

  #ask(keyId: 'k' | 'small', promptTokens: number, outputTokens: number): void {
    const { world } = this
    const now = this.steady()
    const verdict = world.admit({ promptTokens, outputTokens, remainingMs: 90_000 }, { keyId })
    if (verdict.kind !== 'admitted' || !verdict.held) return
    const { held } = verdict
    const cap = keyId === 'small' ? KEY.tpm : TENANT.tpm
    const entry = { at: held.at, key: keyId, requests: 1, tokens: 0 }
    entry.tokens = Math.min(promptTokens + outputTokens, cap)
    this.live.set(held, entry)
    this.log.push(entry)
    ok(this.live.size <= TENANT.concurrency)
    if (!this.#exact) return
    equal(held.at, now)
    this.#expectWithin(TENANT, ['k', 'small'], entry)
    if (keyId === 'small') this.#expectWithin(KEY, ['small'], entry)
  }

  #expectWithin(
    limits: { rpm: number; tpm: number },
    keys: readonly string[],
    last: Counted,
  ): void {
    ok(this.sum('requests', keys, last.at) <= limits.rpm)
    // One without tokens comes in even where answers have turned out longer than was reserved.
    if (last.tokens === 0) return
    const theirs = this.log.filter(({ key, tokens }) => keys.includes(key) && tokens > 0)
    // However far answers went beyond what was reserved: it is paid back before anybody else comes in.
    let used = 0
    for (const { at, tokens } of theirs.toReversed()) {
      used += tokens
      ok(used <= limits.tpm * (1 + Math.floor((last.at - at) / MINUTE)))
    }
  }

  #end(held: LiveRequest, entry: Counted, said: Bill): void {
    this.live.delete(held)
    this.#book(entry, this.world.end(held, said))
  }

  #book(entry: Counted, booking: ReturnType<TenantWorld['end']>): void {
    if (booking) {
      this.booked++
      this.#settle(entry, tokensOf([booking.entry]))
    } else {
      entry.requests = 0
      entry.tokens = 0
    }
  }

  #settle(entry: Counted, used: number): void {
    if (used > entry.tokens) {
      const beyond = used - entry.tokens
      this.log.push({ at: this.steady(), key: entry.key, requests: 0, tokens: beyond })
    } else entry.tokens = used
  }

  #again(which: number, said: Bill | null): void {
    const { world } = this
    const orphan = pick(this.orphans, which)
    if (!orphan) return
    this.orphans.splice(this.orphans.indexOf(orphan), 1)
    const { running, entry } = orphan
    if (said) this.#book(entry, world.ledger.book(world.account.book(running, said)))
    else this.live.set(world.account.resume(running)!, entry)
  }

  #crash(): void {
    for (const [held, entry] of this.live) this.orphans.push({ running: runningOf(held), entry })
    this.live.clear()
    this.world.reset()
  }

  #check(): void {
    const { account, ledger } = this.world
    equal(account.running, this.live.size)
    equal(ledger.lines.length, this.booked)
    equal(ledger.settled.size, this.booked)
    for (const keyId of ['k', 'small']) {
      const verdict = this.world.admit(null, { keyId })
      if (verdict.kind !== 'admitted') throw new Error(verdict.kind)
      const { requests, tokens } = verdict.allowances!
      for (const { limit, remaining, resetMs } of [requests!, tokens!]) {
        ok(remaining >= 0)
        ok(remaining <= limit)
        ok(resetMs >= 0)
        // What is owed may take longer; and what a reset has left may count a tenth of a second too long.
        if (remaining > 0) ok(resetMs <= MINUTE + 99)
      }
    }
  }

  /** Nothing runs any more, and a minute has passed: there is all of everything. */
  expectNothingLeft(): void {
    const { world } = this
    world.now += 90_000 + MINUTE
    this.sweep()
    equal(world.account.running, 0)
    world.now += 4 * 60 * MINUTE // all that is owed is paid
    partialDeepStrictEqual(world.admit(null, { keyId: 'small' }), {
      allowances: {
        requests: { limit: KEY.rpm, remaining: KEY.rpm, resetMs: 0 },
        tokens: { limit: KEY.tpm, remaining: KEY.tpm, resetMs: 0 },
      },
    })
    partialDeepStrictEqual(world.admit(null), {
      allowances: {
        requests: { remaining: TENANT.rpm, resetMs: 0 },
        tokens: { remaining: TENANT.tpm, resetMs: 0 },
      },
    })
    const used = tokensOf(world.ledger.lines)
    equal(world.account.entry().tokensThisMonth, used)
    const tooMuch = world.admit({ promptTokens: QUOTA - used + 1, outputTokens: 0 })
    partialDeepStrictEqual(tooMuch, {
      code: 'insufficient_quota',
      message: `Of your tokens for this month, ${QUOTA - used} are left until 2026-12-01T00:00:00Z; this request needs about ${QUOTA - used + 1}.`,
    })
  }
}

const pick = <T>(from: readonly T[], which: number): T | undefined => from[which % from.length]
