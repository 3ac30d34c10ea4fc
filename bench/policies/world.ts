/** Virtual time: arrivals, the pool's choices, engines, readings and faults, event by event. */
import type { Policy } from '../../durable-objects/scheduling/types.ts'
import { DueQueue } from '../../scripts/sim/due-queue.ts'
import { random } from '../../scripts/sim/tokenizer.ts'
import type { Fleet } from './fleets.ts'
import { BenchPool, type Grant } from './pool.ts'
import { Instance, KV_TOKENS, SLOTS, type Job } from './site.ts'
import type { Arrival } from './workloads.ts'

const READING_MS = 5000
const PROBE_MS = 2000
const QUEUE_MAX = 64
const QUEUE_MS = 10_000
const ATTEMPTS = 2
/** A run goes on this long after its last arrival, in milliseconds, for those that are still at it. */
const TAIL_MS = 60_000

/** What became of one request. */
export interface Told {
  /** Milliseconds from its arrival to its first token; null when it had none. */
  readonly ttftMs: number | null
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  readonly error: 'failed' | 'refused' | null
}

export interface Run {
  readonly told: readonly Told[]
  /** Requests sent to each instance, failed attempts included. */
  readonly sent: readonly number[]
  /** Milliseconds from the first arrival to the last token. */
  readonly tookMs: number
}

export interface Scenario {
  readonly policy: Policy
  readonly arrivals: readonly Arrival[]
  readonly fleet: Fleet
  readonly seed: number
  /** Breakers may be left out, to see what the choice alone does. */
  readonly hasBreakers?: boolean
}

/** A request on its way. */
interface Flight {
  readonly arrival: Arrival
  readonly avoid: string[]
  grant: Grant | null
  job: Job | null
  sentAt: number
  firstAt: number | null
  isOver: boolean
}

export function simulate({ policy, arrivals, fleet, seed, hasBreakers = true }: Scenario): Run {
  const next = random(seed ^ 0x5eed)
  let now = 0
  const instances = Array.from(
    { length: fleet.size },
    (_, i) => new Instance(fleet.slowness[i] ?? 1),
  )
  const pool = new BenchPool({
    now: () => now,
    policy,
    size: fleet.size,
    slots: SLOTS,
    kvTokens: KV_TOKENS,
    hasBreaker: hasBreakers,
    random: next,
  })
  const timers = new DueQueue<{ dueAt: number; run: () => void }>()
  const told: Told[] = []
  const sent = Array<number>(fleet.size).fill(0)
  const flying = new Set<Flight>()
  const queue: Flight[] = []
  /** What engines said while they were moved on: done after, so that no engine is called from within itself. */
  let news: (() => void)[] = []
  let lastTokenAt = 0

  const after = (ms: number, run: () => void) => timers.push({ dueAt: now + ms, run })

  const conclude = (flight: Flight, error: Told['error'], cachedTokens = 0): void => {
    flight.isOver = true
    flying.delete(flight)
    const { arrival, firstAt } = flight
    told.push({
      ttftMs: firstAt === null ? null : firstAt - arrival.at,
      promptTokens: arrival.prompt.length,
      cachedTokens,
      outputTokens: error === null ? arrival.outputTokens : 0,
      error,
    })
  }

  /** @returns false when every slot is taken */
  const place = (flight: Flight): boolean => {
    const grant = pool.acquire(flight.arrival, flight.avoid)
    if ('kind' in grant) {
      if (grant.kind === 'all-full') return false
      conclude(flight, 'failed')
      return true
    }
    const { instance } = grant
    const engine = instances[instance]
    if (!engine) return false
    sent[instance] = (sent[instance] ?? 0) + 1
    flight.grant = grant
    flight.sentAt = now
    flying.add(flight)
    const { failsAfterMs } = engine
    if (failsAfterMs !== null) {
      flight.job = null
      after(failsAfterMs, () => fail(flight))
      return true
    }
    flight.job = engine.submit(now, flight.arrival, {
      started: () => news.push(() => (flight.firstAt ??= now)),
      finished: (cached) => news.push(() => finish(flight, cached)),
    })
    engine.advance(now)
    return true
  }

  const arrive = (flight: Flight): void => {
    if (queue.length === 0 && place(flight)) return
    if (queue.length >= QUEUE_MAX) return conclude(flight, 'refused')
    queue.push(flight)
    after(QUEUE_MS, () => {
      const at = queue.indexOf(flight)
      if (at === -1) return
      queue.splice(at, 1)
      conclude(flight, 'refused')
    })
  }

  const serveQueue = (): void => {
    for (let first = queue[0]; first !== undefined && place(first); first = queue[0]) queue.shift()
  }

  const finish = (flight: Flight, cachedTokens: number): void => {
    const { grant, arrival, sentAt, firstAt } = flight
    if (grant === null || flight.isOver) return
    lastTokenAt = now
    pool.release(grant, {
      ending: 'done',
      counted: 'reported',
      ttftMs: firstAt === null ? null : firstAt - sentAt,
      durationMs: now - sentAt,
      promptTokens: arrival.prompt.length,
      completionTokens: arrival.outputTokens,
      cachedTokens,
    })
    conclude(flight, null, cachedTokens)
    serveQueue()
  }

  /** Its instance failed it: once more elsewhere, unless the tenant has seen some of the answer. */
  const fail = (flight: Flight): void => {
    const { grant, firstAt, avoid } = flight
    if (grant === null || flight.isOver) return
    flying.delete(flight)
    if (flight.job) instances[grant.instance]?.abort(flight.job, now)
    pool.release(grant, null)
    avoid.push(pool.seats[grant.instance]?.id ?? '')
    flight.grant = null
    if (firstAt !== null || avoid.length >= ATTEMPTS) conclude(flight, 'failed')
    else arrive(flight)
    serveQueue()
  }

  const failAllOn = (instance: number): void => {
    const there = [...flying].filter(({ grant }) => grant?.instance === instance)
    for (const flight of there) fail(flight)
  }

  const read = (): void => {
    instances.forEach((instance, i) => {
      // A long prefill stands still too, but only in what this engine counts; real ones count on.
      if (instance.standsStill() && !instance.isAlive) {
        pool.seats[i]?.health.suspect()
        after(PROBE_MS, () => {
          if (pool.seats[i]?.health.giveUp()) failAllOn(i)
        })
      }
      if (pool.reading(i, instance.gauges())) failAllOn(i)
    })
    serveQueue()
    after(READING_MS, read)
  }

  for (const { at, instance, turn } of fleet.events) {
    after(at, () => {
      instances[instance]?.turn(turn)
      if (turn === 'dies') failAllOn(instance)
    })
  }
  after(0, read)

  const end = (arrivals.at(-1)?.at ?? 0) + TAIL_MS
  let upcoming = 0
  for (;;) {
    let at = Math.min(arrivals[upcoming]?.at ?? Infinity, timers.nextAt ?? Infinity)
    for (const instance of instances) at = Math.min(at, instance.nextAt)
    const isIdle = upcoming === arrivals.length && flying.size === 0 && queue.length === 0
    if (isIdle || at > end) break
    now = Math.max(now, at)
    for (const instance of instances) if (instance.nextAt <= now) instance.advance(now)
    tellNews()
    for (let due = timers.popDue(now); due !== null; due = timers.popDue(now)) due.item.run()
    for (let due = arrivals[upcoming]; due !== undefined && due.at <= now;) {
      arrive({
        arrival: due,
        avoid: [],
        grant: null,
        job: null,
        sentAt: 0,
        firstAt: null,
        isOver: false,
      })
      due = arrivals[++upcoming]
    }
    tellNews()
  }
  for (const flight of [...flying, ...queue]) conclude(flight, 'failed')
  return { told, sent, tookMs: Math.max(1, lastTokenAt) }

  function tellNews(): void {
    while (news.length > 0) {
      const told = news
      news = []
      for (const each of told) each()
    }
  }
}
