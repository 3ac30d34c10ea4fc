import type { ArmName } from '../pool/contract.ts'
import type { PostDeps } from '../webhooks/post.ts'
import type {
  ArmsReport,
  ModelStatus,
  RolledOut,
  Rollout,
  RolloutOrder,
  RolloutRecord,
} from './contract.ts'
import { GuardWatch, type Finding } from './guard-watch.ts'
import { routeIn } from './holding.ts'
import { modelStatuses } from './model-status.ts'
import { Notices } from './notices.ts'
import { isOff } from './overlay.ts'
import { RolloutStore } from './rollout-store.ts'
import { Rollouts } from './rollouts.ts'
import type { Snapshot } from './snapshot.ts'

/** Orders after which what an arm has done before says nothing of it. */
const BEGINS_ANEW: ReadonlySet<RolloutOrder['order']> = new Set(['start', 'resume', 'end'])

export interface SharesDeps {
  readonly storage: DurableObjectStorage
  /** Unix milliseconds. */
  readonly now: () => number
  readonly post: PostDeps
  /** Keeps the object alive for work that nobody waits for. */
  readonly defer: (work: Promise<unknown>) => void
}

/**
 * What the fleet object does about arms' shares: rollouts by the clock, guards by the pools' reports, and
 * who is told of it.
 */
export class Shares {
  readonly #deps: SharesDeps
  readonly #rollouts: Rollouts
  readonly #watch: GuardWatch
  readonly #notices: Notices
  #version: Snapshot | null = null

  constructor(deps: SharesDeps) {
    const { storage, now } = deps
    this.#deps = deps
    const store = new RolloutStore(storage.sql)
    this.#rollouts = new Rollouts({
      store,
      atomically: (work) => storage.transactionSync(work),
      now,
    })
    this.#watch = new GuardWatch(now)
    this.#notices = new Notices(storage.sql)
  }

  /** The current version, as it holds now; null when there is none. */
  get snapshot(): Snapshot | null {
    return this.#rollouts.snapshot
  }

  /** As {@link Rollouts.take}. */
  take(version: Snapshot): readonly ArmName[] {
    return this.#rollouts.take(version)
  }

  /** As {@link Rollouts.restore}. */
  restore(version: Snapshot, records: readonly RolloutRecord[]): readonly Rollout[] {
    return this.#rollouts.restore(version, records)
  }

  /** As {@link Rollouts.records}. */
  records(): readonly RolloutRecord[] {
    return this.#rollouts.records()
  }

  /** As {@link Rollouts.goOn}. */
  goOn(version: Snapshot | null): void {
    const before = this.#version
    this.#version = version
    this.#rollouts.goOn(version)
    this.#watch.follow(
      (name) => routeIn(before, name),
      (name) => routeIn(version, name),
    )
  }

  async order(order: RolloutOrder): Promise<RolledOut> {
    const { revision } = this.snapshot ?? {}
    const done = this.#rollouts.order(order)
    // The same order once more changes nothing, and must not keep the guard blind.
    const changed = this.snapshot?.revision !== revision
    if (changed && BEGINS_ANEW.has(order.order)) this.#watch.restart(order)
    if (done.kind === 'taken') await this.setAlarm()
    return done
  }

  /** A pool's figures. Arms that do too badly by them are turned off. */
  async report(report: ArmsReport): Promise<void> {
    this.#watch.take(report, (name) => routeIn(this.#version, name))
    const found = this.#look(new Set(report.arms.map(({ model }) => model)))
    if (found || this.#watch.due !== null) await this.setAlarm()
  }

  statuses(): readonly ModelStatus[] {
    return this.#version ? modelStatuses(this.#version, this.#rollouts, this.#watch) : []
  }

  async alarm(): Promise<void> {
    const { now, post, defer } = this.#deps
    this.#rollouts.tick()
    this.#look(Object.keys(this.#version?.models ?? {}))
    // No alarm rings while one is at work: a receiver that takes its time must not keep guards and rollouts waiting.
    const telling = this.#notices.deliver(now, post)
    if (telling) defer(telling.then(() => this.setAlarm()))
    await this.setAlarm()
  }

  /** For what is due next. */
  async setAlarm(): Promise<void> {
    const { storage, now } = this.#deps
    const dues = [this.#rollouts.due, this.#notices.due, this.#watch.due]
    const next = Math.min(...dues.map((due) => due ?? Infinity))
    if (next < Infinity) await storage.setAlarm(Math.max(next, now()))
    else await storage.deleteAlarm()
  }

  /** Turns off the arms that are to be. @returns whether there were any */
  #look(models: Iterable<string>): boolean {
    const found = [...models].flatMap((model) => this.#findings(model))
    for (const finding of found) this.#turnOff(finding)
    return found.length > 0
  }

  #findings(name: string): readonly Finding[] {
    const model = routeIn(this.snapshot, name)
    if (!model) return []
    const off = new Set(
      this.#rollouts
        .of(name)
        .filter(isOff)
        .map(({ arm }) => arm),
    )
    return this.#watch.findings(model, (arm) => off.has(arm))
  }

  #turnOff({ name, why }: Finding): void {
    const { version: fleet = 0, terms } = this.#version ?? {}
    const notice = { event: 'guard', ...name, why, at: this.#deps.now(), fleet } as const
    this.#rollouts.turnOff(name, why, () => this.#notices.put(notice, terms?.webhooks ?? []))
    console.warn(`guard: ${name.model}: ${name.arm} is turned off: ${why}`)
  }
}
