import { DurableObject } from 'cloudflare:workers'
import { completePool } from '../fleet/complete.ts'
import { FLEET_NAME, type ArmFigures, type FleetRpc } from '../fleet/contract.ts'
import type { HealthConfig, InstanceConfig, PoolConfig } from '../fleet/snapshot.ts'
import { secretsOf } from '../fleet/target.ts'
import { Fitness } from '../health/fitness.ts'
import { look, type Look, type Purpose } from '../health/probe.ts'
import type { SavedWard } from '../health/ward.ts'
import { AFFINITY_CAPACITY } from '../scheduling/affinity.ts'
import { ArmReports } from './arm-reports.ts'
import type {
  Acquired,
  Demand,
  Explanation,
  Holding,
  PoolAbout,
  PoolRpc,
  PoolStatus,
  Reattached,
} from './contract.ts'
import { Dispatcher, type Decision } from './dispatcher.ts'
import { explanationOf } from './explanation.ts'
import { Keepsake } from './keepsake.ts'
import { Lease } from './lease.ts'
import { poolOfObjectName } from './name.ts'
import type { Seat } from './seat.ts'
import { aboutOf, statusOf, whyNotReady } from './stats.ts'
import { Ticket } from './ticket.ts'

/** After this long without a request or a running one, the object stops looking and costs nothing. */
const IDLE_MS = 10 * 60_000
/** Instances that have not been ready yet are looked at this often at first, so that a start is quick. */
const EAGER_MS = 1_000
const EAGER_FOR_MS = 60_000
/** A grant reaches its engine's count within this, in milliseconds. */
const ON_THE_WAY_MS = 250
/** How long owners of streams have to re-attach after a reset; until then the engines' counts stand in. */
const REATTACH_MS = 5_000
/** Readings older than this many rounds are not believed. */
const STALE_LOOKS = 4
/** How long the fleet object may take to hand out a configuration, in milliseconds. */
const PULL_MS = 3_000
/** How often the queue is looked at while somebody waits, whatever else happens, in milliseconds. */
const QUEUE_TICK_MS = 250

export interface PoolEnv {
  readonly FLEET: { getByName(name: string): unknown }
}

/**
 * One pool's instances. A shell: clock, storage, alarm and the calls to instances live here, decisions in
 * {@link Dispatcher} (who gets which slot) and {@link Fitness} (who is fit for work).
 */
export class Pool extends DurableObject<PoolEnv> implements PoolRpc {
  readonly #fitness: Fitness<Seat>
  readonly #dispatcher: Dispatcher
  readonly #keepsake: Keepsake
  readonly #reports: ArmReports
  #config: ReturnType<typeof completePool> | null = null
  #lastAsked = Date.now()
  /** When the last round of looks began; -Infinity before the first, and after a rest. */
  #lookedAt = -Infinity
  /** True in a new life of an object that had one before, until the engines have been asked. */
  #forgetful = false
  #eagerUntil = Date.now() + EAGER_FOR_MS
  #waking: Promise<void> | null = null
  #queueTimer: ReturnType<typeof setTimeout> | null = null

  constructor(ctx: DurableObjectState, env: PoolEnv) {
    super(ctx, env)
    const deps = { fetch: fetch.bind(globalThis), secretOf: secretsOf(env) }
    this.#fitness = new Fitness<Seat>({
      now: () => this.#dispatcher.now,
      look: (instance, ...how) => this.#lookAt(deps, instance, ...how),
      onChange: () => this.#saveHealth(),
      onOut: (seat, why) => this.#giveUp(seat, why),
      workingSince: (seat) => this.#dispatcher.ledger.workingSince(seat),
      onRestart: (seat) => this.#dispatcher.chooser.forget(seat.config.instance),
    })
    const health = this.#fitness
    this.#dispatcher = new Dispatcher({ now: Date.now, random: Math.random, health })
    this.#keepsake = new Keepsake(ctx.storage.kv, Date.now)
    this.#reports = new ArmReports({
      counters: this.#dispatcher.tally.arms,
      send: (arms) => this.#report(arms),
      after: (ms, act) => void setTimeout(() => ctx.waitUntil(act()), ms),
      sleep: pause,
      now: Date.now,
    })
    const config = ctx.storage.kv.get<PoolConfig>('config')
    if (!config) return
    this.#dispatcher.chooser.affinity = this.#keepsake.index(AFFINITY_CAPACITY)
    this.#dispatcher.tally.restore(this.#keepsake.tally)
    this.#adopt(config)
    this.#forgetStrangers()
    this.#forgetful = true
  }

  // Nothing is stored and, once awake, nothing awaited: a slot costs one round trip and no more.
  async acquire(demand: Demand): Promise<Acquired> {
    this.#lastAsked = Date.now()
    if (!this.#isAwake(demand)) await this.#wake(demand.fleet)
    if (!this.#config) return { kind: 'none-ready', why: ['this pool is in no fleet version'] }
    if (demand.fleet < this.#version) return { kind: 'stale', version: this.#version }

    const decision = this.#dispatcher.acquire(demand)
    if (decision.kind !== 'queued') return this.#answer(decision, demand)
    this.#mindQueue()
    const ticket = new Ticket(decision, (final) => this.#answer(final, demand))
    return { kind: 'queued', ahead: decision.ahead, ticket, ...this.#strain() }
  }

  async reattach(holding: Holding): Promise<Reattached> {
    const lease = this.#dispatcher.reattach(holding)
    if (lease === null) return { kind: 'gone' }
    return { kind: 'reattached', lease: new Lease(this.#dispatcher, lease) }
  }

  async explain(demand: Demand): Promise<Explanation> {
    if (!this.#isAwake(demand)) await this.#wake(demand.fleet)
    return explanationOf(this.#dispatcher, demand)
  }

  async drain(instance: string, drained: boolean): Promise<boolean> {
    const { ledger } = this.#dispatcher
    if (!ledger.seat(instance)) return false
    const ids = new Set(this.#keepsake.drained)
    if (drained) ids.add(instance)
    else ids.delete(instance)
    this.#keepsake.drained = ids
    ledger.drain(ids)
    this.#dispatcher.serveQueue()
    return true
  }

  async configure(config: PoolConfig): Promise<{ version: number }> {
    if (config.version >= this.#version) {
      this.#adopt(config)
      // Only now: every life of this object begins with what is stored.
      this.ctx.storage.kv.put('config', config)
      this.#lastAsked = Date.now()
      this.#eagerUntil = Date.now() + EAGER_FOR_MS
      // Not waited for: taking a version must not wait for the slowest instance.
      this.ctx.waitUntil(this.#lookOrWake())
    }
    return { version: this.#version }
  }

  async status(): Promise<PoolStatus> {
    if (!this.#isFresh && this.#config) await this.#wake(this.#version)
    return statusOf(this.#config, this.#dispatcher, this.#fitness)
  }

  // Wakes nothing: a list of models is asked for by anybody, at any time.
  async about(): Promise<PoolAbout> {
    return aboutOf(this.#dispatcher, this.#fitness)
  }

  override async alarm(): Promise<void> {
    this.#dispatcher.sweep()
    this.#keepsake.keep(this.#dispatcher)
    const idle = Date.now() - this.#lastAsked > IDLE_MS && this.#dispatcher.ledger.size === 0
    if (idle) this.#lookedAt = -Infinity
    else await this.#lookOrWake()
  }

  /** Whether it can decide about this one at once. */
  #isAwake({ fleet }: Pick<Demand, 'fleet'>): boolean {
    return this.#isFresh && !this.#waking && fleet <= this.#version
  }

  /** Who asks meanwhile waits for the round where what is known is too old to go by. */
  #lookOrWake(): Promise<void> {
    return this.#isFresh ? this.#look() : this.#wake(this.#version)
  }

  /** Whether the last round is recent: an alarm may be late, and a pool at rest has none. */
  get #isFresh(): boolean {
    const everyMs = this.#config?.health.everyMs ?? 0
    return Date.now() - this.#lookedAt < STALE_LOOKS * Math.max(everyMs, EAGER_MS)
  }

  /** Begins a round of looks that nobody waits for, so that a hung instance holds up nothing. */
  async #look(): Promise<void> {
    const { over } = await this.#startRound()
    this.ctx.waitUntil(over)
  }

  /** The next alarm is set first, so that nothing a look does can end the rounds. */
  async #startRound(): Promise<{ readonly over: Promise<void> }> {
    if (!this.#config || this.#config.instances.length === 0) return { over: Promise.resolve() }
    await this.ctx.storage.setAlarm(Date.now() + this.#pauseMs(this.#config))
    this.#lookedAt = Date.now()
    return { over: this.#round() }
  }

  /** One round of looks; what it has found may be news for those who wait. */
  async #round(): Promise<void> {
    try {
      await this.#fitness.look()
    } finally {
      for (const seat of this.#dispatcher.ledger.seats) {
        const { kvTokens } = this.#fitness.ward(seat).gauges
        this.#dispatcher.chooser.affinity.limit(seat.config.instance, kvTokens)
      }
      this.#dispatcher.weigh()
      this.#dispatcher.serveQueue()
    }
  }

  /**
   * Makes the object fit to decide: the fleet version it is asked for, fresh readings, and what the
   * engines have to do already, since after a reset they run streams that this object has forgotten.
   * However many ask, it happens once.
   */
  #wake(fleet: number): Promise<void> {
    this.#waking ??= this.#prepare(fleet).finally(() => {
      this.#waking = null
    })
    return this.#waking
  }

  async #prepare(fleet: number): Promise<void> {
    if (this.#version < fleet) await this.#pull()
    if (this.#isFresh || !this.#config) return
    const round = this.#startRound().then(({ over }) => over)
    await Promise.race([round, pause(this.#config.health.timeoutMs)])
    if (!this.#forgetful) return
    this.#forgetful = false
    await this.#presumeOrphans(this.#config.health)
  }

  /**
   * After a reset: requests that the engines have and this object has forgotten. Looks twice where
   * there are any, since grants of the moment before may still be on their way to their engine.
   */
  async #presumeOrphans(health: HealthConfig): Promise<void> {
    const { ledger } = this.#dispatcher
    const engineHas = (seat: Seat): number => {
      const { running, waiting } = this.#fitness.ward(seat).gauges
      return (running ?? 0) + (waiting ?? 0)
    }
    ledger.expectOwners(engineHas)
    try {
      const busy = [...ledger.seats].some((seat) => seat.presumed > 0)
      if (!busy) return
      await pause(ON_THE_WAY_MS)
      await Promise.race([this.#round(), pause(health.timeoutMs)])
      ledger.expectOwners((seat) => Math.max(seat.presumed, engineHas(seat)))
    } finally {
      // Whatever a look has thrown, or the slots of those who never come back would stay taken.
      setTimeout(() => {
        ledger.expectOwners(() => 0)
        this.#dispatcher.serveQueue()
      }, REATTACH_MS)
    }
  }

  /** A push has not arrived here (or never was one, for a new object): ask the fleet object. */
  async #pull(): Promise<void> {
    const { name } = this.ctx.id
    if (name === undefined) return
    const asked = this.#fleet.poolConfig(poolOfObjectName(name))
    try {
      const config = await Promise.race([asked, pause(PULL_MS)])
      if (config) await this.configure(config)
    } catch (cause) {
      // With the fleet object out of reach, what this one knows goes on serving.
      if (!this.#config) throw cause
    }
  }

  async #report(arms: readonly ArmFigures[]): Promise<void> {
    if (this.#config) await this.#fleet.report?.({ pool: this.#config.pool, arms })
  }

  get #fleet(): FleetRpc {
    return this.env.FLEET.getByName(FLEET_NAME) as FleetRpc
  }

  /** Fleet version this object decides by; 0 when it has none yet. */
  get #version(): number {
    return this.#config?.version ?? 0
  }

  #adopt(config: PoolConfig): void {
    const complete = completePool(config)
    const { ledger } = this.#dispatcher
    ledger.drain(this.#keepsake.drained)
    const before = new Set(ledger.seats)
    this.#dispatcher.configure(complete)
    this.#fitness.configure(ledger.seats, complete)
    this.#config = complete
    this.#reports.configure()
    const known = this.ctx.storage.kv.get<Record<string, SavedWard>>('health') ?? {}
    for (const seat of ledger.seats) {
      const saved = known[seat.config.process]
      if (saved && !before.has(seat)) this.#fitness.restore(seat, saved)
    }
    this.#dispatcher.serveQueue()
  }

  /** The index that was kept may be older than the configuration. */
  #forgetStrangers(): void {
    const { chooser, ledger } = this.#dispatcher
    for (const id of chooser.affinity.instances) if (!ledger.seat(id)) chooser.forget(id)
  }

  #answer(decision: Decision, { work }: Demand): Acquired {
    switch (decision.kind) {
      case 'granted': {
        const { seat, lease, reason, expectedHitTokens } = decision
        const { instance, base, site, secrets } = seat.config
        return {
          kind: 'granted',
          target: { instance, base, site, secrets },
          reason,
          expectedHitTokens,
          usualOutputTokens: this.#dispatcher.tally.usualOutputTokens,
          ...this.#strain(),
          lease: new Lease(this.#dispatcher, lease),
        }
      }
      case 'none-ready': {
        const { ledger } = this.#dispatcher
        return { ...decision, why: whyNotReady(ledger, this.#fitness, work?.adapter ?? null) }
      }
      case 'busy':
        return { ...decision, ...this.#strain() }
      case 'all-avoided':
      case 'stale':
        return decision
    }
  }

  /** Nothing, as nearly always, while the pool is at ease. */
  #strain(): { readonly pressure?: number } {
    const { pressure } = this.#dispatcher
    return pressure === 0 ? NO_STRAIN : { pressure }
  }

  #lookAt(
    deps: Parameters<typeof look>[2],
    instance: InstanceConfig,
    purpose: Purpose,
    withinMs: number,
  ): Promise<Look> {
    const { servedAs = '', health, adapters = [] } = this.#config ?? {}
    const timeoutMs = health?.timeoutMs ?? EAGER_MS
    const lastResort = instance.lastResort ?? false // a stored one may not say
    const options = { servedAs, timeoutMs, withinMs, purpose, lastResort, adapters }
    return look(instance, options, deps)
  }

  /** Whoever has a request running there is told; the request decides what that means for it. */
  #giveUp(seat: Seat, why: string): void {
    console.warn(`${this.#config?.pool} ${seat.config.instance} is out of service: ${why}`)
    this.#dispatcher.ledger.dismiss(seat)
  }

  /** While somebody waits: a wait ends by time alone, and so does a sit-out that frees a slot. */
  #mindQueue(): void {
    if (this.#queueTimer !== null || this.#dispatcher.queue.size === 0) return
    const next = this.#dispatcher.queue.nextDeadline ?? Infinity
    const ms = Math.max(0, Math.min(QUEUE_TICK_MS, next - Date.now()))
    this.#queueTimer = setTimeout(() => {
      this.#queueTimer = null
      this.#dispatcher.serveQueue()
      this.#mindQueue()
    }, ms)
  }

  #pauseMs({ health }: PoolConfig): number {
    const young = Date.now() < this.#eagerUntil
    const { seats } = this.#dispatcher.ledger
    const starting = young && [...seats].some((seat) => this.#fitness.ward(seat).state !== 'ready')
    const eager = starting || this.#fitness.paths.anyDown // a tunnel that is back is back for all
    return eager ? Math.min(EAGER_MS, health.everyMs) : health.everyMs
  }

  #saveHealth(): void {
    const known: Record<string, SavedWard> = {}
    for (const seat of this.#dispatcher.ledger.seats)
      known[seat.config.process] = this.#fitness.saved(seat)
    this.ctx.storage.kv.put('health', known)
  }
}

const NO_STRAIN = {}

const pause = (ms: number): Promise<null> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms, null)
  })
