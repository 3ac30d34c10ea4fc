import { DurableObject } from 'cloudflare:workers'
import type { PoolConfig } from '../fleet/snapshot.ts'
import { secretsOf } from '../fleet/target.ts'
import { look } from '../health/probe.ts'
import { Rounds } from '../health/rounds.ts'
import type { Health } from '../health/state.ts'
import { FLEET_NAME, type FleetRpc } from '../fleet/contract.ts'
import {
  CONTRACT_VERSION,
  type Acquired,
  type Demand,
  type Holding,
  type InstanceState,
  type InstanceStatus,
  type PoolRpc,
  type PoolStatus,
  type Reattached,
} from './contract.ts'
import { Lease } from './lease.ts'
import { Ledger, type Seat } from './ledger.ts'
import { poolOfObjectName } from './name.ts'

/** After this long without a request or a running one, the object stops looking and costs nothing. */
const IDLE_MS = 10 * 60_000
/** Instances that have not been ready yet are looked at this often at first, so that a start is quick. */
const EAGER_MS = 1_000
const EAGER_FOR_MS = 60_000
/** How long owners of streams have to re-attach after a reset; until then the engines' counts stand in. */
const SETTLE_MS = 5_000
/** `retry-after` when every slot is taken, in seconds. */
const RETRY_AFTER_S = 1

export interface PoolEnv {
  readonly FLEET: { getByName(name: string): unknown }
}

/** One pool's instances. A shell: clock, storage and alarm live here, decisions in ledger and rounds. */
export class Pool extends DurableObject<PoolEnv> implements PoolRpc {
  readonly #ledger = new Ledger(Date.now, (seat) => this.#stateOf(seat))
  readonly #rounds: Rounds
  readonly #bornAt = Date.now()
  #config: PoolConfig | null = null
  #lastAsked = Date.now()
  /** True while the alarm keeps the readings fresh. */
  #awake = false
  #waking: Promise<void> | null = null

  constructor(ctx: DurableObjectState, env: PoolEnv) {
    super(ctx, env)
    const deps = { fetch: fetch.bind(globalThis), secretOf: secretsOf(env) }
    this.#rounds = new Rounds({
      now: Date.now,
      look: (instance, entrance) => {
        const { servedAs = '', health } = this.#config ?? {}
        const timeoutMs = health?.timeoutMs ?? EAGER_MS
        return look(instance, { servedAs, timeoutMs, entrance }, deps)
      },
      onChange: () => this.#saveHealth(),
    })
    const config = ctx.storage.kv.get<PoolConfig>('config')
    if (config) this.#adopt(config)
  }

  // Nothing is stored and, once awake, nothing awaited: a slot costs one round trip and no more.
  async acquire(demand: Demand): Promise<Acquired> {
    this.#lastAsked = Date.now()
    if (!this.#awake || demand.fleet > this.#version) await this.#wake(demand.fleet)
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
        return { kind: 'none-ready', why: this.#whyNotReady() }
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
      // Not waited for: taking a version must not wait for the slowest instance.
      this.ctx.waitUntil(this.#awake ? this.#look() : this.#wake(config.version))
    }
    return { version: this.#version }
  }

  async status(): Promise<PoolStatus> {
    if (!this.#awake && this.#config) await this.#wake(this.#version)
    return {
      contract: CONTRACT_VERSION,
      pool: this.#config?.pool ?? '',
      fleet: this.#version,
      policy: this.#ledger.policy,
      instances: [...this.#ledger.everySeat()].map((seat) => this.#statusOf(seat)),
      granted: this.#ledger.granted,
      ended: this.#ledger.ended,
    }
  }

  override async alarm(): Promise<void> {
    this.#ledger.sweep()
    const idle = Date.now() - this.#lastAsked > IDLE_MS && this.#ledger.size === 0
    if (idle) this.#awake = false
    else await (this.#awake ? this.#look() : this.#wake(this.#version))
  }

  /** One round of looks. The next alarm is set first, so that nothing a look does can end the rounds. */
  async #look(): Promise<void> {
    if (!this.#config || this.#config.instances.length === 0) return
    await this.ctx.storage.setAlarm(Date.now() + this.#pauseMs(this.#config))
    // The object lives as long as calls are under way; the alarm itself must not wait for a hung one.
    this.ctx.waitUntil(this.#rounds.make(this.#ledger.seats, this.#config.health))
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
    if (this.#awake || !this.#config) return
    await this.ctx.storage.setAlarm(Date.now() + this.#pauseMs(this.#config))
    const { health } = this.#config
    await Promise.race([
      this.#rounds.make(this.#ledger.seats, health),
      new Promise((resolve) => setTimeout(resolve, health.timeoutMs)),
    ])
    this.#ledger.expectOwners((seat) => {
      const { running, waiting } = this.#rounds.gauges(seat)
      return (running ?? 0) + (waiting ?? 0)
    })
    setTimeout(() => this.#ledger.expectOwners(() => 0), SETTLE_MS)
    this.#awake = true
  }

  /** A push has not arrived here (or never was one, for a new object): ask the fleet object. */
  async #pull(): Promise<void> {
    const { name } = this.ctx.id
    if (name === undefined) return
    const fleet = this.env.FLEET.getByName(FLEET_NAME) as FleetRpc
    const config = await fleet.poolConfig(poolOfObjectName(name))
    if (!config) return
    this.ctx.storage.kv.put('config', config)
    this.#adopt(config)
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
      const health = known[seat.config.base]
      if (health && this.#rounds.health(seat).state === 'starting')
        this.#rounds.remember(seat, health)
    }
  }

  #pauseMs({ health }: PoolConfig): number {
    const young = Date.now() - this.#bornAt < EAGER_FOR_MS
    const eager = young && [...this.#ledger.seats].some((seat) => this.#stateOf(seat) !== 'ready')
    return eager ? Math.min(EAGER_MS, health.everyMs) : health.everyMs
  }

  #stateOf(seat: Seat): InstanceState {
    return seat.draining ? 'draining' : this.#rounds.health(seat).state
  }

  #statusOf(seat: Seat): InstanceStatus {
    const { since, reason } = this.#rounds.health(seat)
    return {
      id: seat.config.instance,
      state: this.#stateOf(seat),
      reason: seat.draining ? 'no longer in the fleet' : reason,
      since,
      inFlight: this.#ledger.inFlight(seat),
      slots: seat.config.slots,
      ...this.#rounds.gauges(seat),
    }
  }

  #whyNotReady(): string[] {
    return [...this.#ledger.seats].map((seat) => {
      const { state, reason } = this.#rounds.health(seat)
      return `${seat.config.instance} ${state}: ${reason}`
    })
  }

  #saveHealth(): void {
    const known: Record<string, Health> = {}
    for (const seat of this.#ledger.seats) known[seat.config.base] = this.#rounds.health(seat)
    this.ctx.storage.kv.put('health', known)
  }
}
