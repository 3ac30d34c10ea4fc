/** Virtual time: arrivals, the pool's choices, engines, looks and faults, event by event. */
import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Policy } from '../../durable-objects/scheduling/types.ts'
import { DueQueue } from '../../scripts/sim/due-queue.ts'
import { random } from '../../scripts/sim/tokenizer.ts'
import type { Sequence } from './engine.ts'
import type { Fleet } from './fleets.ts'
import { oracle, ORACLE } from './oracle.ts'
import { BenchPool, LOOK_MS, type Grant } from './pool.ts'
import type { Run, Told } from './run.ts'
import { Instance, SLOTS } from './site.ts'
import type { Arrival, Traffic } from './workloads.ts'

const QUEUE_MAX = 64
const QUEUE_MS = 10_000
const ATTEMPTS = 2
/** A run goes on this long after its last arrival, in milliseconds, for those that are still at it. */
const TAIL_MS = 60_000

export interface Scenario {
  readonly policy: Policy | typeof ORACLE
  readonly traffic: Traffic
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
  sequence: Sequence | null
  sentAt: number
  firstAt: number | null
  isOver: boolean
}

export async function simulate(scenario: Scenario): Promise<Run> {
  const { policy, traffic, fleet, seed, hasBreakers = true } = scenario
  const { arrivals } = traffic
  let now = 0
  const instances = Array.from(
    { length: fleet.size },
    (_, i) => new Instance(fleet.slowness[i] ?? 1, traffic.blocks),
  )
  const timers = new DueQueue<{ dueAt: number; run: () => void }>()
  const told: Told[] = []
  const sent = Array<number>(fleet.size).fill(0)
  const flying = new Set<Flight>()
  const queue: Flight[] = []
  /** What engines and looks said while they were at it: done after, so that nothing is called from within itself. */
  let news: (() => void)[] = []
  /** Promises have something to do before time goes on. */
  let isSettling = false
  let lastTokenAt = 0

  const after = (ms: number, run: () => void) => timers.push({ dueAt: now + ms, run })

  const look = (instance: number, purpose: Purpose): Promise<Look> => {
    const { promise, resolve } = Promise.withResolvers<Look>()
    const seen = instances[instance]?.look(now, purpose)
    if (!seen) throw new Error(`no instance ${instance}`)
    const tell = (): void => {
      isSettling = true
      resolve(seen.look)
    }
    if (seen.afterMs === 0) tell()
    else after(seen.afterMs, tell)
    return promise
  }

  const pool: BenchPool = new BenchPool({
    now: () => now,
    policy: policy === ORACLE ? oracle((id) => trueWaitOf(id)) : policy,
    size: fleet.size,
    slots: SLOTS,
    hasBreaker: hasBreakers,
    random: random(seed ^ 0x5eed),
    look,
    onOut: (instance) => news.push(() => giveUp(instance)),
  })

  const trueWaitOf = (id: string): number => {
    const engine = instances.find((_, i) => pool.nameOf(i) === id)
    return engine && pool.asking ? engine.firstTokenAt(now, pool.asking) - now : Infinity
  }

  const conclude = (flight: Flight, error: Told['error'], cachedTokens = 0): void => {
    flight.isOver = true
    flying.delete(flight)
    const { arrival, firstAt } = flight
    told.push({
      ttftMs: firstAt === null ? null : firstAt - arrival.at,
      promptTokens: arrival.promptTokens,
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
    flight.sequence = null
    flying.add(flight)
    const { failsAfterMs } = engine
    if (failsAfterMs !== null) {
      after(failsAfterMs, () => flight.grant === grant && fail(flight, 'upstream-failed'))
      return true
    }
    flight.sequence = engine.submit(now, flight.arrival, {
      started: () => news.push(() => (flight.firstAt ??= now)),
      finished: (cached) => news.push(() => finish(flight, cached)),
    })
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
    pool.release(grant, 'done', {
      ending: 'done',
      counted: 'reported',
      ttftMs: firstAt === null ? null : firstAt - sentAt,
      durationMs: now - sentAt,
      promptTokens: arrival.promptTokens,
      completionTokens: arrival.outputTokens,
      cachedTokens,
    })
    conclude(flight, null, cachedTokens)
    serveQueue()
  }

  /** It got no further there: once more elsewhere, unless the tenant has seen some of the answer. */
  const fail = (flight: Flight, ending: Ending): void => {
    const { grant, sequence, firstAt, avoid } = flight
    if (grant === null || flight.isOver) return
    flying.delete(flight)
    if (sequence) instances[grant.instance]?.abort(now, sequence)
    pool.release(grant, ending, null)
    avoid.push(pool.nameOf(grant.instance))
    flight.grant = null
    if (firstAt !== null || avoid.length >= ATTEMPTS) conclude(flight, 'failed')
    else arrive(flight)
    serveQueue()
  }

  const flightsOn = (instance: number): Flight[] =>
    [...flying].filter(({ grant }) => grant?.instance === instance)

  /** The pool has given it up: a stream that still moves may have its chance. */
  const giveUp = (instance: number): void => {
    const moves = instances[instance]?.moves ?? false
    for (const flight of flightsOn(instance))
      if (flight.firstAt === null || !moves) fail(flight, 'lost')
  }

  const readAll = (): void => {
    isSettling = true
    void pool.look().then(() => news.push(serveQueue))
    after(LOOK_MS, readAll)
  }

  for (const { at, instance, turn } of fleet.events) {
    after(at, () => {
      instances[instance]?.turn(now, turn)
      if (turn !== 'dies') return
      for (const flight of flightsOn(instance))
        fail(flight, flight.firstAt === null ? 'upstream-failed' : 'truncated')
    })
  }
  readAll()
  await settled()

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
      arrive(flightOf(due))
      due = arrivals[++upcoming]
    }
    tellNews()
    while (isSettling) {
      isSettling = false
      await settled()
      tellNews()
    }
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

const flightOf = (arrival: Arrival): Flight => ({
  arrival,
  avoid: [],
  grant: null,
  sequence: null,
  sentAt: 0,
  firstAt: null,
  isOver: false,
})

/** When all that promises have to do for now is done. */
const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))
