import { DurableObject } from 'cloudflare:workers'
import type { PoolRpc } from '../pool/contract.ts'
import { checkFleet } from './check.ts'
import { FORMAT, compileFleet } from './compile.ts'
import type { Compiled } from './compile.ts'
import { completeVersion } from './complete.ts'
import type {
  Applied,
  ArmsReport,
  Change,
  FleetRecord,
  FleetRpc,
  Intent,
  LeftPool,
  ModelStatus,
  PoolTook,
  Rollback,
  RolledBack,
  RolledOut,
  RolloutOrder,
  RolloutRecord,
  VersionEntry,
  VersionFile,
} from './contract.ts'
import { checkDeployable } from './deployable.ts'
import { LeftPools } from './left-pools.ts'
import { partsOf, push, type PoolAt, type PoolPart } from './push.ts'
import type { FleetFile } from './schema.ts'
import { Shares } from './shares.ts'
import type { PoolConfig, Snapshot } from './snapshot.ts'
import { MOST_STORED_BYTES, storedBytes } from './stored-size.ts'
import { secretsOf } from './target.ts'
import { compileTerms } from './terms.ts'
import { VersionStore } from './version-store.ts'
import type { StoredVersion } from './version-store.ts'

export interface FleetEnv {
  readonly POOL: { getByName(name: string, options?: { locationHint?: string }): unknown }
}

/** Numbered, immutable fleet versions. Holds the truth; pools and Workers hold copies of it. */
export class Fleet extends DurableObject<FleetEnv> implements FleetRpc {
  readonly #versions: VersionStore
  readonly #shares: Shares
  readonly #left: LeftPools
  #current: Compiled | null = null

  constructor(ctx: DurableObjectState, env: FleetEnv) {
    super(ctx, env)
    this.#versions = new VersionStore(ctx.storage)
    this.#versions.prepare()
    this.#left = new LeftPools(ctx.storage.sql)
    const newest = this.#versions.newest()
    if (newest) this.#current = this.#compiled(newest)
    const post = { fetch: fetch.bind(globalThis), secretOf: secretsOf(env) }
    const defer = ctx.waitUntil.bind(ctx)
    this.#shares = new Shares({ storage: ctx.storage, now: Date.now, post, defer })
    this.#shares.goOn(this.#current?.snapshot ?? null)
    // One that a release without alarms has let pass.
    void ctx.blockConcurrencyWhile(() => this.#shares.setAlarm())
  }

  async snapshot(known: number, revision?: number): Promise<Snapshot | null> {
    const { snapshot } = this.#shares
    const isKnown =
      snapshot?.version === known && (revision ?? snapshot.revision) === snapshot.revision
    return isKnown ? null : snapshot
  }

  async report(report: ArmsReport): Promise<void> {
    await this.#shares.report(report)
  }

  async rollout(order: RolloutOrder): Promise<RolledOut> {
    return this.#shares.order(order)
  }

  async models(): Promise<readonly ModelStatus[]> {
    return this.#shares.statuses()
  }

  override async alarm(): Promise<void> {
    await this.#shares.alarm()
  }

  async poolConfig(pool: string): Promise<PoolConfig | null> {
    return this.#current?.pools.find((config) => config.pool === pool) ?? null
  }

  async apply({ yaml, ...intent }: Change): Promise<Applied> {
    const checked = checkDeployable(yaml, this.#isSet(intent))
    if (!checked.ok) return { kind: 'invalid', problems: checked.problems }
    return this.#conflict(intent) ?? this.#take(yaml, checked.fleet, intent)
  }

  async rollback({ version, ...intent }: Rollback): Promise<RolledBack> {
    const conflict = this.#conflict(intent)
    if (conflict) return conflict
    const old =
      version === null ? this.#versions.before(this.#newest) : this.#versions.numbered(version)
    if (!old) return { kind: 'no-version', version }
    const checked = checkDeployable(old.yaml, this.#isSet(intent))
    if (!checked.ok) return { kind: 'invalid', version: old.version, problems: checked.problems }
    const said = intent.message ? `: ${intent.message}` : ''
    const message = `back to version ${old.version}${said}`
    return this.#take(old.yaml, checked.fleet, { ...intent, message })
  }

  async versions(): Promise<readonly VersionEntry[]> {
    return this.#versions.entries()
  }

  async file(version: number | null): Promise<VersionFile | null> {
    const stored = version === null ? this.#versions.newest() : this.#versions.numbered(version)
    if (!stored) return null
    const { compiled: _, ...file } = stored
    return file
  }

  async leftPools(): Promise<readonly LeftPool[]> {
    return this.#current ? this.#left.gone(this.#current, Date.now()) : []
  }

  async record(): Promise<FleetRecord> {
    return { rollouts: this.#shares.records() }
  }

  async restore(
    files: readonly VersionFile[],
    records: readonly RolloutRecord[] = [],
  ): Promise<Applied> {
    const conflict = this.#conflict({ ifVersion: 0 })
    if (conflict) return conflict
    const inOrder = files.toSorted((a, b) => a.version - b.version)
    const last = inOrder.at(-1)
    const checked = checkFleet(last?.yaml ?? '')
    if (!last || !checked.ok) {
      return { kind: 'invalid', problems: checked.ok ? [] : checked.problems }
    }
    const { compiled, rollouts } = this.#versions.atomically(() => {
      for (const file of inOrder) {
        // One that this release would refuse is kept all the same.
        const read = checkFleet(file.yaml)
        if (read.ok) {
          this.#versions.noteModels(Object.keys(read.fleet.models), file.at)
          this.#versions.notePlans(file.version, compileTerms(read.fleet, file.version).plans)
        }
        this.#versions.insert(file, {}) // made anew from the file once it is needed
      }
      const newest = this.#versions.newest()
      const compiled = newest && this.#compiled(newest)
      if (!compiled) return { compiled, rollouts: [] }
      this.#shares.take(compiled.snapshot)
      return { compiled, rollouts: this.#shares.restore(compiled.snapshot, records) }
    })
    this.#current = compiled
    this.#shares.goOn(compiled?.snapshot ?? null)
    await this.#shares.setAlarm()
    const pools = await this.#push()
    return { kind: 'applied', version: last.version, changed: true, pools, rollouts }
  }

  /** Number of the current version; 0 when there is none. */
  get #newest(): number {
    return this.#current?.snapshot.version ?? 0
  }

  #conflict({ ifVersion }: Intent): Extract<Applied, { kind: 'conflict' }> | null {
    const version = this.#newest
    if (ifVersion === null || ifVersion === version) return null
    const by = this.#versions.newest()?.by ?? null
    return { kind: 'conflict', version, ...(by !== null && { by }) }
  }

  /** This object's deployment may be older than the Worker's by minutes, or newer. */
  #isSet({ secrets = [] }: Intent): (name: string) => boolean {
    const own = secretsOf(this.env)
    return (name) => own(name) !== undefined || secrets.includes(name)
  }

  /** Nothing is awaited until the version is stored: of two at once, the second finds the first's. */
  async #take(yaml: string, fleet: FleetFile, intent: Intent): Promise<AppliedVersion> {
    // The same file again changes nothing, but is pushed again: it heals a pool that missed it.
    const before = this.#current
    const changed = this.#versions.newest()?.yaml !== yaml
    const version = changed ? this.#newest + 1 : this.#newest
    const { compiled, ended } = changed
      ? this.#store(version, yaml, fleet, intent)
      : { compiled: before, ended: [] }
    this.#current = compiled
    if (changed) this.#shares.goOn(compiled?.snapshot ?? null)
    return { kind: 'applied', version, changed, pools: await this.#push(), ended }
  }

  /** Sends the current version to its pools, and to those that have left. */
  #push(): Promise<PoolTook[]> {
    const now = this.#current
    if (!now) return Promise.resolve([])
    const sent = async (part: PoolPart): Promise<PoolTook> => {
      const took = await push(part, this.#poolAt)
      if (took.version !== null) this.#left.took(part.name, took.version)
      return took
    }
    return Promise.all([...partsOf(now), ...this.#left.parts(now)].map(sent))
  }

  readonly #poolAt: PoolAt = (name, region) =>
    this.env.POOL.getByName(name, region === null ? {} : { locationHint: region }) as PoolRpc

  #store(version: number, yaml: string, fleet: FleetFile, intent: Intent) {
    const { by = null, message = null } = intent
    const at = Date.now()
    const models = Object.keys(fleet.models)
    const pools = Object.keys(fleet.pools).length
    const versions = this.#versions
    return versions.atomically(() => {
      versions.noteModels(models, at)
      const compiled = this.#compile(fleet, version)
      versions.insert({ version, at, models: models.length, pools, yaml, by, message }, compiled)
      versions.prune(at)
      this.#left.note(this.#current, compiled, at)
      return { compiled, ended: this.#shares.take(compiled.snapshot) }
    })
  }

  #compile(fleet: FleetFile, version: number): Compiled {
    const versions = this.#versions
    const compiled = compileFleet(fleet, version, versions.created(), versions.lastSaid())
    versions.notePlans(version, compiled.snapshot.terms?.plans ?? {})
    return compiled
  }

  /**
   * What was made of a stored version. If another release made it, it is made anew from the file, so
   * that nobody sees a version without the fields that this release knows. A file that this release
   * would refuse goes on as it was read then.
   */
  #compiled({ yaml, version, compiled }: StoredVersion): Compiled {
    const stored = JSON.parse(compiled) as Compiled
    if (stored.format === FORMAT) return stored
    this.#versions.noteOthersPlans()
    const checked = checkFleet(yaml)
    const renewed = checked.ok ? this.#compile(checked.fleet, version) : completeVersion(stored)
    if (storedBytes(yaml, renewed) <= MOST_STORED_BYTES) this.#versions.recompile(version, renewed)
    return renewed
  }
}

type AppliedVersion = Extract<Applied, { kind: 'applied' }>
