import { DurableObject } from 'cloudflare:workers'
import type { HealthConfig, PoolConfig } from '../fleet/snapshot.ts'
import { secretsOf } from '../fleet/target.ts'
import { look } from '../health/probe.ts'
import { Rounds } from '../health/rounds.ts'
import type { Health } from '../health/state.ts'
import { FLEET_NAME, type FleetRpc } from '../fleet/contract.ts'
import type { Acquired, Demand, Holding, PoolRpc, PoolStatus, Reattached } from './contract.ts'
import { Lease } from './lease.ts'
import { Ledger, type Seat } from './ledger.ts'
import { poolOfObjectName } from './name.ts'
import { stateOf, statusOf, whyNotReady } from './stats.ts'

/** After this long without a request or a running one, the object stops looking and costs nothing. */
const IDLE_MS = 10 * 60_000
/** Instances that have not been ready yet are looked at this often at first, so that a start is quick. */
const EAGER_MS = 1_000
const EAGER_FOR_MS = 60_000
/** A grant reaches its engine's count within this, in milliseconds. */
const ON_THE_WAY_MS = 250
/** How long owners of streams have to re-attach after a reset; until then the engines' counts stand in. */
const SETTLE_MS = 5_000
/** Readings older than this many rounds are not believed. */
const STALE_LOOKS = 4
/** How long the fleet object may take to hand out a configuration, in milliseconds. */
const PULL_MS = 3_000
/** `retry-after` when every slot is taken, in seconds. */
const RETRY_AFTER_S = 1

export interface PoolEnv {
  readonly FLEET: { getByName(name: string): unknown }
}

/** One pool's instances. A shell: clock, storage and alarm live here, decisions in ledger and rounds. */
export class Pool extends DurableObject<PoolEnv> implements PoolRpc {
  readonly #ledger = new Ledger(Date.now, (seat) => stateOf(seat, this.#rounds))
  readonly #rounds: Rounds
  #config: PoolConfig | null = null
  #lastAsked = Date.now()
  /** When the last round of looks began; -Infinity before the first, and after a rest. */
  #lookedAt = -Infinity
  /** True in a new life of an object that had one before, until the engines have been asked. */
  #forgetful = false
  #eagerUntil = Date.now() + EAGER_FOR_MS
  #waking: Promise<void> | null = null

  constructor(ctx: DurableObjectState, env: PoolEnv) {
    super(ctx, env)
    const deps = { fetch: fetch.bind(globalThis), secretOf: secretsOf(env) }
    this.#rounds = new Rounds({
      now: Date.now,
      look: (instance, entrance) => {
        const { servedAs = '', health } = this.#config ?? {}
        const timeoutMs = health?.timeoutMs ?? EAGER_MS
        const lastResort = instance.lastResort ?? false // a stored one may not say
        return look(instance, { servedAs, timeoutMs, entrance, lastResort }, deps)
      },
      onChange: () => this.#saveHealth(),
    })
    const config = ctx.storage.kv.get<PoolConfig>('config')
    if (!config) return
    this.#adopt(config)
    this.#forgetful = true
  }

  // Nothing is stored and, once awake, nothing awaited: a slot costs one round trip and no more.
  async acquire(demand: Demand): Promise<Acquired> {
    this.#lastAsked = Date.now()
    const ready = this.#fit && !this.#waking && demand.fleet <= this.#version
    if (!ready) await this.#wake(demand.fleet)
    if (!this.#config) return { kind: 'none-ready', why: ['this pool is in no fleet version'] }
    if (demand.fleet < this.#version) return { kind: 'stale', version: this.#version }

    const decision = this.#ledger.acquire(demand)
    switch (decision.kind) {
      case 'granted': {
        const { seat, lease, reason } = decision
        const { instance, base, site, secrets } = seat.config
        const target = { instance, base, site, secrets }
        return { kind: 'granted', target, reason, lease: new Lease(this.#ledger, lease) }
      }
      case 'busy':
        return { kind: 'busy', retryAfterS: RETRY_AFTER_S }
      case 'none-ready':
        return { kind: 'none-ready', why: whyNotReady(this.#ledger, this.#rounds) }
      case 'all-avoided':
        return decision
    }
  }

  async reattach(holding: Holding): Promise<Reattached> {
    const lease = this.#ledger.reattach(holding)
    if (lease === null) return { kind: 'gone' }
    return { kind: 'reattached', lease: new Lease(this.#ledger, lease) }
  }

  async configure(config: PoolConfig): Promise<{ version: number }> {
    if (config.version >= this.#version) {
      this.ctx.storage.kv.put('config', config)
      this.#adopt(config)
      this.#lastAsked = Date.now()
      this.#eagerUntil = Date.now() + EAGER_FOR_MS
      // Not waited for: taking a version must not wait for the slowest instance.
      this.ctx.waitUntil(this.#fit ? this.#look() : this.#wake(config.version))
    }
    return { version: this.#version }
  }

  async status(): Promise<PoolStatus> {
    if (!this.#fit && this.#config) await this.#wake(this.#version)
    return statusOf(this.#config, this.#ledger, this.#rounds)
  }

  override async alarm(): Promise<void> {
    this.#ledger.sweep()
    const idle = Date.now() - this.#lastAsked > IDLE_MS && this.#ledger.size === 0
    if (idle) this.#lookedAt = -Infinity
    else await (this.#lookedAt === -Infinity ? this.#wake(this.#version) : this.#look())
  }

  /** Whether the readings are fresh: an alarm may be late, and a pool at rest has none. */
  get #fit(): boolean {
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
    return { over: this.#rounds.make(this.#ledger.seats, this.#config.health) }
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
    if (this.#fit || !this.#config) return
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
    const engineHas = (seat: Seat): number => {
      const { running, waiting } = this.#rounds.gauges(seat)
      return (running ?? 0) + (waiting ?? 0)
    }
    this.#ledger.expectOwners(engineHas)
    const busy = [...this.#ledger.seats].some((seat) => seat.presumed > 0)
    if (busy) {
      await pause(ON_THE_WAY_MS)
      const again = this.#rounds.make(this.#ledger.seats, health)
      await Promise.race([again, pause(health.timeoutMs)])
      this.#ledger.expectOwners((seat) => Math.max(seat.presumed, engineHas(seat)))
    }
    setTimeout(() => this.#ledger.expectOwners(() => 0), SETTLE_MS)
  }

  /** A push has not arrived here (or never was one, for a new object): ask the fleet object. */
  async #pull(): Promise<void> {
    const { name } = this.ctx.id
    if (name === undefined) return
    const fleet = this.env.FLEET.getByName(FLEET_NAME) as FleetRpc
    const asked = fleet.poolConfig(poolOfObjectName(name))
    try {
      const config = await Promise.race([asked, pause(PULL_MS)])
      if (config) await this.configure(config)
    } catch (cause) {
      // With the fleet object out of reach, what this one knows goes on serving.
      if (!this.#config) throw cause
    }
  }

  /** Fleet version this object decides by; 0 when it has none yet. */
  get #version(): number {
    return this.#config?.version ?? 0
  }

  #adopt(config: PoolConfig): void {
    this.#config = config
    this.#ledger.configure(config.instances, config.policy)
    const known = this.ctx.storage.kv.get<Record<string, Health>>('health') ?? {}
    for (const seat of this.#ledger.seats) {
      const health = known[seat.config.process]
      if (health && this.#rounds.health(seat).state === 'starting')
        this.#rounds.remember(seat, health)
    }
  }

  #pauseMs({ health }: PoolConfig): number {
    const young = Date.now() < this.#eagerUntil
    const eager =
      young && [...this.#ledger.seats].some((seat) => stateOf(seat, this.#rounds) !== 'ready')
    return eager ? Math.min(EAGER_MS, health.everyMs) : health.everyMs
  }

  #saveHealth(): void {
    const known: Record<string, Health> = {}
    for (const seat of this.#ledger.seats) known[seat.config.process] = this.#rounds.health(seat)
    this.ctx.storage.kv.put('health', known)
  }
}

const pause = (ms: number): Promise<null> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms, null)
  })
