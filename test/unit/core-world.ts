/** The world that a request meets in a test: instances, pools, a tenant; and a record of all that came of it. */
import type { PoolRoute } from '../../durable-objects/fleet/snapshot.ts'
import type {
  Acquired,
  Demand,
  Holding,
  ServiceClass,
  Settlement,
} from '../../durable-objects/pool/contract.ts'
import type { Bill, Claim } from '../../durable-objects/tenant/contract.ts'
import type { ForwardDeps, Order, Reservation } from '../../worker/forward/order.ts'
import { Outages, PATIENCE_MS } from '../../worker/forward/outages.ts'
import { PoolNews } from '../../worker/forward/pool-news.ts'
import { Standby } from '../../worker/forward/standby.ts'
import { upstreamCall, type UpstreamCall } from '../../worker/forward/upstream.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import { HeldBodies } from '../../worker/ingress/held-bodies.ts'
import type { Unranked } from '../../worker/ingress/work.ts'
import type { Receipt } from '../../worker/receipt.ts'
import type { Refusal } from '../../worker/refusal.ts'
import type { Route, Routes } from '../../worker/routing/resolve.ts'
import { modelRoute, poolRoute, snapshot, target } from './core-builders.ts'

const WORK: Unranked = {
  tenant: 'acme',
  session: 'acme',
  address: '',
  place: null,
  promptTokens: 100,
  outputTokens: null,
  prefix: new Uint8Array(),
}

interface Timer {
  readonly ms: number
  readonly act: () => void
  calledOff: boolean
}

/** How an instance answers a call. */
export type Answers = (init: RequestInit) => Response | Promise<Response>

/** What a request meets on its way: a test names only what matters to it. */
export interface World {
  readonly endpoint?: Endpoint
  /** What the instances of the model asked for answer; more than one thing, in turn. */
  readonly instances?: Instances
  /** Further arms of that model, each of a pool by its name, and their instances. */
  readonly arms?: Readonly<Record<string, Instances>>
  /** Whether it was said which arm, by its name or by a rule: no share has chosen it. */
  readonly named?: boolean
  /** The arm of it that the tenant's object says the conversation keeps. */
  readonly keeps?: string
  /** Models to fall back to, and their instances. */
  readonly fallback?: Readonly<Record<string, Instances>>
  /** What a pool says in place of taking the first instance that is not avoided. */
  readonly pool?: (demand: Demand, pool: string) => Acquired | Promise<Acquired> | undefined
  readonly prepare?: (route: Route) => UpstreamCall | undefined
  readonly renew?: Order['renew']
  readonly admission?: Promise<void>
  readonly allows?: (model: string) => boolean
  /** What is known of the tenant's class; unknown where it is null. */
  readonly class?: ServiceClass | null
  readonly body?: Readonly<Record<string, unknown>>
  /** The name asked by. vLLM's own is the default: then no frame must change. */
  readonly shown?: string
  readonly route?: Partial<PoolRoute>
  readonly timeouts?: Partial<PoolRoute['timeouts']>
  readonly signal?: AbortSignal
  /** Instances of the pool that copies go to: of every request, unless its share says otherwise. */
  readonly shadow?: Instances
  readonly share?: number
  /** What of that pool is not as usual. */
  readonly shadowRoute?: Partial<PoolRoute>
  /** Rejects when a pool object is reset. */
  readonly reset?: Promise<void>
}
export type Instances = Readonly<Record<string, Answers | readonly Answers[]>>

/** An order and what it is carried out with, and a record of all that came of it. */
export function worldOf(world: World) {
  const { endpoint = ENDPOINTS[0]!, body = { stream: true }, shown = 'Qwen-14B-Chat' } = world
  const seen = {
    demands: [] as (Demand & { pool: string })[],
    released: [] as (Settlement & { instance: string })[],
    disposed: [] as string[],
    claims: [] as Claim[],
    /** In the order they were said; the first counts. */
    bills: [] as Bill[],
    revocations: [] as ((why: Refusal) => void)[],
    watched: [] as string[],
    reattached: [] as Holding[],
    urls: [] as string[],
    sent: [] as Record<string, unknown>[],
    logs: [] as string[],
    /** How many calls had been made each time the room of the request's body was given back. */
    bodyReleased: [] as number[],
    deferred: [] as Promise<unknown>[],
    /** What was to happen after a while; called off when it does not matter any more. */
    timers: [] as Timer[],
    /** The same of those that bound the wait for a pool's object. */
    patience: [] as Timer[],
  }
  const timeouts = { firstByteMs: 60_000, idleMs: 60_000, totalMs: 60_000, ...world.timeouts }
  const routeTo = (name: string, pool: Partial<PoolRoute>, as: string): Route => ({
    model: modelRoute({ name }),
    arm: modelRoute().arms[0]!,
    pool: poolRoute({ timeouts, ...pool }),
    asked: name,
    keepable: [],
    byShares: world.named !== true,
    rule: null,
    shown: as,
    fleet: 7,
  })
  const pools: Record<string, Instances> = {
    'qwen-14b': world.instances ?? {},
    ...world.arms,
    ...world.fallback,
    ...(world.shadow && { shadow: world.shadow }),
  }
  const { share = 1 } = world
  const asked = routeTo('qwen', world.route ?? {}, shown)
  const others = Object.keys(world.arms ?? {}).map((name) => ({
    arm: { name, pool: name, weight: 0 },
    pool: poolRoute({ timeouts, pool: name, servedAs: name }),
  }))
  const routes: Routes = [
    {
      ...asked,
      keepable: others.length === 0 ? [] : [asked, ...others],
      model: { ...asked.model, ...(world.shadow && { shadow: { pool: 'shadow', share } }) },
    },
    ...Object.keys(world.fallback ?? {}).map((name) => routeTo(name, { pool: name }, name)),
  ]

  const grant = (instance: string): Acquired & Partial<Disposable> => ({
    kind: 'granted',
    target: target({ instance, base: `http://${instance}` }),
    reason: 'least_inflight',
    lease: {
      wait: () => {
        seen.watched.push(instance)
        return world.reset ?? new Promise<void>(() => {})
      },
      release: (settlement) => void seen.released.push({ ...settlement, instance }),
    },
    [Symbol.dispose]: () => void seen.disposed.push(instance),
  })
  const choose = ({ avoid }: Demand, pool: string): Acquired => {
    const free = Object.keys(pools[pool]!).find((id) => !avoid.includes(id))
    return free === undefined ? { kind: 'all-avoided' } : grant(free)
  }
  const shadow = poolRoute({
    pool: 'shadow',
    servedAs: 'Qwen-14B-Next',
    timeouts,
    ...world.shadowRoute,
  })
  const instances: Instances = Object.assign({}, ...Object.values(pools))
  const turns = new Map<string, number>()

  const deps: ForwardDeps = {
    pool: ({ pool: { pool } }) => ({
      acquire: async (demand) => {
        seen.demands.push({ ...demand, pool })
        return (await world.pool?.(demand, pool)) ?? choose(demand, pool)
      },
      reattach: async (holding) => {
        seen.reattached.push(holding)
        return { kind: 'gone' }
      },
      configure: async () => ({ version: 1 }),
      status: () => Promise.reject(new Error('not asked')),
      explain: () => Promise.reject(new Error('not asked')),
      drain: () => Promise.reject(new Error('not asked')),
    }),
    fetch: async (url, init) => {
      seen.urls.push(url)
      if (typeof init.body === 'string') seen.sent.push(JSON.parse(init.body))
      const instance = new URL(url).host
      const turn = turns.get(instance) ?? 0
      turns.set(instance, turn + 1)
      const given = [instances[instance]!].flat()
      return (given[turn] ?? given.at(-1)!)(init)
    },
    news: new PoolNews(),
    outages: new Outages(),
    standby: new Standby({ now: Date.now, random: () => 0 }),
    fleet: () => snapshot({ version: 9, pools: { shadow } }),
    copies: new HeldBodies(1024 ** 2, 0), // bounded whatever their size, as those of `forward-deps.ts`
    secretOf: () => 'secret',
    now: Date.now,
    random: () => 0,
    sleep: async () => undefined,
    after: (ms, act) => {
      const timer = { ms, act, calledOff: false }
      const bounds = ms === PATIENCE_MS ? seen.patience : seen.timers
      bounds.push(timer)
      return () => void (timer.calledOff = true)
    },
    defer: (work) => void seen.deferred.push(work),
    log: (message, cause = '') => void seen.logs.push(`${message} ${String(cause)}`),
  }
  const receipt: Receipt = { requestId: 'req_1', shown: true }
  const stream = body['stream'] === true && endpoint.dialect !== null
  let keeps: Reservation['keeps'] = null
  let withdrawn: Refusal | null = null
  const reservation: Reservation = {
    warm: world.class !== null,
    class: world.class ?? 'standard',
    get keeps() {
      return keeps
    },
    allows: (model) => world.allows?.(model) ?? true,
    reserve: async (claim) => {
      seen.claims.push(claim())
      await world.admission
      if (world.keeps !== undefined) keeps = { model: 'qwen', arm: world.keeps }
    },
    watch: (onWithdrawn) => void seen.revocations.push(onWithdrawn),
    get withdrawn() {
      return withdrawn
    },
    settle: (bill) => void seen.bills.push(bill),
  }
  const order: Order = {
    endpoint,
    stream,
    routes,
    renew:
      world.renew ??
      (async (fleet) => {
        const [first, ...others] = routes
        return [{ ...first, fleet }, ...others.map((route) => ({ ...route, fleet }))]
      }),
    prepare: (route) =>
      world.prepare?.(route) ??
      upstreamCall(
        endpoint,
        { body, form: null, stream },
        { route, requestId: 'req_1', headers: new Headers() },
      ),
    reservation,
    tokens: endpoint.tokens,
    deadline: Date.now() + timeouts.totalMs,
    bytes: JSON.stringify(body).length,
    releaseBody: () => void seen.bodyReleased.push(seen.urls.length),
    promptEstimate: 100,
    work: () => WORK,
    receipt,
    signal: world.signal ?? new AbortController().signal,
  }
  const over = async (): Promise<void> => {
    await Promise.all(seen.deferred)
  }
  /** The tenant's object takes the request back: whoever watches last is told. */
  const withdraw = (why: Refusal): void => {
    withdrawn = why
    seen.revocations.at(-1)?.(why)
  }
  return { ...seen, order, deps, receipt, over, withdraw }
}
