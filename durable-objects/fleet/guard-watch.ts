import { SHADOW_ARM, type ArmName } from '../pool/contract.ts'
import { ArmWindow, totalOf, type ArmTotals } from './arm-window.ts'
import type { ArmsReport } from './contract.ts'
import { judge } from './guard.ts'
import type { Guard, ModelRoute } from './snapshot.ts'

/** Figures of this long are shown where no guard says how long, in milliseconds. */
const SHOWN_MS = 5 * 60 * 1000

/** What a guard has found. */
export interface Finding {
  readonly name: ArmName
  readonly why: string
}

/**
 * Pools report apart from one another, each second: what one tells of a failure that all arms share, another
 * tells up to so much later. An arm is turned off once it has been the worse one for so long, at every look.
 * In milliseconds.
 */
export const SETTLE_MS = 2_000

interface Held {
  readonly windowMs: number
  readonly window: ArmWindow
  /** Since when it has done too badly at every look, Unix milliseconds; null: it has not, at the last one. */
  badSince: number | null
}

/**
 * How the arms of all models do. In memory: after the object was reset, a guard begins anew, and has what it
 * needs again within its window.
 */
export class GuardWatch {
  readonly #now: () => number
  readonly #windows = new Map<string, Map<string, Held>>()

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Takes a pool's figures. @param modelOf null: there is no such model (any more), and nothing is taken */
  take({ arms }: ArmsReport, modelOf: (name: string) => ModelRoute | null): void {
    for (const { model: name, arm, ...figures } of arms) {
      const model = modelOf(name)
      if (model && isArmOf(model, arm)) this.#window(model, arm).add(figures, this.#now())
    }
  }

  /**
   * The arms of a model that are to be turned off by what is known now. To be asked with every report, so that
   * what passes is seen to, and when {@link due} says. The first arm never is: the others are measured against it. An arm that nobody chooses by weight is judged all the same: a rule may lead
   * there, or a tenant name it.
   * @param isOff whether it has been turned off already
   */
  findings(model: ModelRoute, isOff: (arm: string) => boolean): readonly Finding[] {
    const { guard, arms, name } = model
    if (!guard) return []
    return arms.slice(1).flatMap(({ name: arm }) => {
      const why = isOff(arm) ? null : this.#judge(guard, model, arm, isOff)
      return this.#hasSettled(model, arm, why) ? [{ name: { model: name, arm }, why }] : []
    })
  }

  /** When arms are to be looked at again though no report comes, Unix milliseconds; null: none does badly. */
  get due(): number | null {
    let first = Infinity
    for (const arms of this.#windows.values()) {
      for (const { badSince } of arms.values())
        if (badSince !== null) first = Math.min(first, badSince + SETTLE_MS)
    }
    return first === Infinity ? null : first
  }

  /** Figures of an arm within the window; null while there are none. */
  totals(model: ModelRoute, arm: string): ArmTotals | null {
    const held = this.#windows.get(model.name)?.get(arm)
    return held ? held.window.totals(this.#now()) : null
  }

  /**
   * Forgets an arm's figures: it begins anew. Not with each step of a rollout: the arm is the same, and its guard
   * must not be blind just when more requests come to it.
   */
  restart({ model, arm }: ArmName): void {
    this.#windows.get(model)?.delete(arm)
  }

  /** Forgets models that are gone, and arms that are or that are other ones now. The others are judged anew. */
  follow(before: (name: string) => ModelRoute | null, now: (name: string) => ModelRoute | null) {
    for (const [name, arms] of this.#windows) {
      const model = now(name)
      if (!model) this.#windows.delete(name)
      for (const [arm, held] of arms) {
        held.badSince = null // perhaps nobody looks at it any more
        if (model && poolOf(model, arm) !== poolOf(before(name), arm)) arms.delete(arm)
      }
    }
  }

  /**
   * Against the first arm, whether or not it still has a share (its last requests are the best there is to
   * compare the first ones of an arm at 100 % with), and all others that have one.
   */
  #judge(
    guard: Guard,
    model: ModelRoute,
    arm: string,
    isOff: (arm: string) => boolean,
  ): string | null {
    const own = this.totals(model, arm)
    if (!own) return null
    const others = model.arms.filter(
      ({ name, weight }, i) => name !== arm && (i === 0 || (weight > 0 && !isOff(name))),
    )
    return judge(guard, own, totalOf(others.flatMap(({ name }) => this.totals(model, name) ?? [])))
  }

  #hasSettled(model: ModelRoute, arm: string, why: string | null): why is string {
    const held = this.#windows.get(model.name)?.get(arm)
    if (!held) return false
    held.badSince = why === null ? null : (held.badSince ?? this.#now())
    return held.badSince !== null && this.#now() - held.badSince >= SETTLE_MS
  }

  #window(model: ModelRoute, arm: string): ArmWindow {
    const arms = this.#windows.get(model.name) ?? new Map<string, Held>()
    this.#windows.set(model.name, arms)
    const windowMs = model.guard?.windowMs ?? SHOWN_MS
    const there = arms.get(arm)
    if (there?.windowMs === windowMs) return there.window
    const window = new ArmWindow(windowMs)
    arms.set(arm, { windowMs, window, badSince: null })
    return window
  }
}

const isArmOf = (model: ModelRoute, arm: string): boolean => poolOf(model, arm) !== null

/** By pool and adapter: an arm that leads to another one is another arm. */
function poolOf(model: ModelRoute | null, arm: string): string | null {
  const found = model?.arms.find(({ name }) => name === arm)
  if (found) return JSON.stringify([found.pool, found.adapter ?? null])
  return arm === SHADOW_ARM && model?.shadow ? JSON.stringify([model.shadow.pool]) : null
}
