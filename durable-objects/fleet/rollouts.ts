import type { ArmName } from '../pool/contract.ts'
import type { ArmChange, RolledOut, Rollout, RolloutOrder, RolloutRecord } from './contract.ts'
import { armsIn, holding, routeIn } from './holding.ts'
import { guarded, inWords, obey, putBack, tick, type HeldRollout, type Obeyed } from './rollout.ts'
import type { RolloutStore } from './rollout-store.ts'
import type { ModelRoute, Snapshot } from './snapshot.ts'

export interface RolloutsDeps {
  readonly store: RolloutStore
  /** All of it or nothing. */
  readonly atomically: <T>(work: () => T) => T
  /** Unix milliseconds. */
  readonly now: () => number
}

/**
 * The shares of all models' arms: what the current version's file says, and what rollouts and guards have
 * put on top of it. Nothing is kept in memory but what is handed out, so that a change that fails half
 * way has not happened.
 */
export class Rollouts {
  readonly #deps: RolloutsDeps
  /** The version as it is stored. */
  #version: Snapshot | null = null
  #handedOut: Snapshot | null = null

  constructor(deps: RolloutsDeps) {
    this.#deps = deps
  }

  /**
   * Goes on with a version that is stored already. One that the release before has made under way has
   * ended no rollouts yet, and has raised no revision.
   */
  goOn(version: Snapshot | null): void {
    this.#version = version
    this.#handedOut = null
    const isStale = this.#rows().some(({ arms, rollout }) => arms !== this.#armsOf(rollout.model))
    if (version && (isStale || this.#deps.store.revision === 0)) {
      this.#deps.atomically(() => this.take(version))
    }
  }

  /** The version, as it holds now. */
  get snapshot(): Snapshot | null {
    const version = this.#version
    if (version) this.#handedOut ??= this.#effective(version)
    return this.#handedOut
  }

  /**
   * Takes a version. Call within a transaction, then {@link goOn} once it is done: rollouts of models whose
   * arms are others now end.
   * @returns rollouts that it ends
   */
  take(version: Snapshot): readonly ArmName[] {
    const ended = this.#rows().filter(
      ({ arms, rollout }) => arms !== armsIn(version, rollout.model),
    )
    for (const { rollout } of ended) {
      this.#deps.store.drop(rollout)
      this.#note(rollout, 'version', null, null, `version ${version.version} changes its arms`)
    }
    this.#raiseRevision()
    return ended.map(({ rollout: { model, arm } }) => ({ model, arm }))
  }

  /**
   * Puts a backup's rollouts on top of a version. Call as {@link take}, and after it.
   * @returns those that hold: not those that were made for other arms than the version's
   */
  restore(version: Snapshot, records: readonly RolloutRecord[]): readonly Rollout[] {
    const own = records.filter(
      ({ arms, model }) => routeIn(version, model) && arms === armsIn(version, model),
    )
    return own.map(({ arms, ...record }) => {
      const rollout = putBack(record, this.#deps.now())
      this.#deps.store.put({ rollout, arms })
      return shown(rollout)
    })
  }

  /** All of them, for a backup. */
  records(): readonly RolloutRecord[] {
    return this.#rows().map(({ rollout, arms }) => ({ ...rollout, arms }))
  }

  /** An operator's order. */
  order(order: RolloutOrder): RolledOut {
    const route = this.#route(order.model)
    if (!route) return { kind: 'no-model' }
    const [first] = route.arms
    if (!route.arms.some(({ name }) => name === order.arm)) {
      return { kind: 'no-arm', arms: route.arms.map(({ name }) => name) }
    }
    if (order.arm === first?.name) {
      const why = `${order.arm} is the first arm, which the others are measured against: give another one a share`
      return { kind: 'refused', why }
    }
    const obeyed = obey(order, this.standing(order), this.#deps.now())
    return this.#carryOut(order, obeyed)
  }

  /**
   * Turns an arm off, at once and for everybody.
   * @param also is done with it, or neither is
   */
  turnOff(name: ArmName, why: string, also: () => void): void {
    const rollout = guarded(name, this.standing(name).held, why, this.#deps.now())
    this.#change(() => {
      this.#put(rollout, 'guard')
      also()
    })
  }

  /** Goes the steps that are due. */
  tick(): void {
    const now = this.#deps.now()
    for (const { rollout } of this.#rows()) {
      const next = tick(rollout, now)
      if (next) this.#change(() => this.#put(next, 'step'))
    }
  }

  /** When the next step is due, Unix milliseconds; null: none is. */
  get due(): number | null {
    const times = this.#rows().flatMap(({ rollout: { nextAt } }) => nextAt ?? [])
    return times.length === 0 ? null : Math.min(...times)
  }

  /** An arm's rollout, and those of the model's other arms. */
  standing({ model, arm }: ArmName): {
    readonly held: HeldRollout | null
    readonly others: readonly HeldRollout[]
  } {
    const all = this.of(model)
    return {
      held: all.find((rollout) => rollout.arm === arm) ?? null,
      others: all.filter((rollout) => rollout.arm !== arm),
    }
  }

  /** A model's rollouts. */
  of(model: string): readonly HeldRollout[] {
    return this.#rows().flatMap(({ rollout }) => (rollout.model === model ? [rollout] : []))
  }

  /** What has changed in a model's shares, newest first. */
  changes(model: string): readonly ArmChange[] {
    return this.#deps.store.changes(model)
  }

  #carryOut(order: RolloutOrder, obeyed: Obeyed): RolledOut {
    switch (obeyed.kind) {
      case 'refused':
        return obeyed
      case 'same':
        return { kind: 'taken', rollout: shown(obeyed.rollout) }
      case 'ended':
        this.#change(() => {
          this.#deps.store.drop(order)
          this.#note(order, order.order, null, order.by, order.message)
        })
        return { kind: 'taken', rollout: null }
      case 'held':
        this.#change(() => this.#put(obeyed.rollout, order.order))
        return { kind: 'taken', rollout: shown(obeyed.rollout) }
    }
  }

  /** Changes shares as one. */
  #change(work: () => void): void {
    if (!this.#version) return
    this.#deps.atomically(() => {
      work()
      this.#raiseRevision()
    })
    this.#handedOut = null
  }

  /** By the clock where that is ahead: so it never goes back, even where the storage was lost. */
  #raiseRevision(): void {
    const { store, now } = this.#deps
    store.revision = Math.max(store.revision + 1, now())
  }

  #put(rollout: HeldRollout, event: ArmChange['event']): void {
    this.#deps.store.put({ rollout, arms: this.#armsOf(rollout.model) })
    const by = event === 'step' ? null : rollout.by
    const why = event === 'step' ? inWords(rollout) : rollout.why
    this.#note(rollout, event, rollout.share, by, why)
  }

  #note(
    { model, arm }: ArmName,
    event: ArmChange['event'],
    share: number | null,
    by: string | null,
    why: string | null,
  ): void {
    this.#deps.store.note({ at: this.#deps.now(), model, arm, event, share, by, why })
  }

  #rows() {
    return this.#deps.store.all()
  }

  #route(model: string): ModelRoute | null {
    return routeIn(this.#version, model)
  }

  #armsOf(model: string): string {
    return armsIn(this.#version, model)
  }

  #effective(version: Snapshot): Snapshot {
    return holding(version, { rollouts: this.#rows(), revision: this.#deps.store.revision })
  }
}

/** As operators see it. */
export const shown = (held: HeldRollout): Rollout => {
  const { step: _, ...rollout } = held
  return rollout
}
