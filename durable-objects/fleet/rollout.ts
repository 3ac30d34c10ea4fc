import type { ArmName } from '../pool/contract.ts'
import type { Rollout, RolloutOrder } from './contract.ts'
import { isOff } from './overlay.ts'

/** Most steps of one rollout. */
export const MOST_STEPS = 20
/** Between two steps, in milliseconds: a step that nobody can see is none, one a month apart is forgotten. */
export const LEAST_EVERY_MS = 1_000
export const MOST_EVERY_MS = 7 * 24 * 60 * 60 * 1000

/** A rollout as it is kept. */
export interface HeldRollout extends Rollout {
  /** Index of the step where it stands, or stood when it was turned off. */
  readonly step: number
}

/** What came of an operator's order. */
export type Obeyed =
  | { readonly kind: 'held'; readonly rollout: HeldRollout }
  /** It is so already. */
  | { readonly kind: 'same'; readonly rollout: HeldRollout }
  /** Nothing holds any more but the file's weight. */
  | { readonly kind: 'ended' }
  | { readonly kind: 'refused'; readonly why: string }

export interface Standing {
  /** Of the arm itself; null: there is none. */
  readonly held: HeldRollout | null
  /** Of the model's other arms. */
  readonly others: readonly HeldRollout[]
}

/**
 * What an order makes of an arm's rollout.
 * @param now Unix milliseconds
 */
export function obey(order: RolloutOrder, { held, others }: Standing, now: number): Obeyed {
  const said = { by: order.by, why: order.message, since: now }
  switch (order.order) {
    case 'start': {
      const why = stepsFault(order.steps, order.everyMs) ?? roomFault(order, order.steps, others)
      if (why !== null) return refused(why)
      if (held?.state === 'running') {
        if (isSamePlan(held, order)) return { kind: 'same', rollout: held }
        return refused(`${inWords(held)}: pause, abort or end that first`)
      }
      const { model, arm, steps, everyMs } = order
      const fresh = { model, arm, steps, everyMs, step: 0, share: 0, state: 'running' } as const
      return { kind: 'held', rollout: atStep({ ...fresh, nextAt: null, ...said }, 0, now) }
    }
    case 'pause':
      if (!held) return refused(`no rollout of ${order.arm} is under way`)
      if (held.state !== 'running') return refused(inWords(held))
      return { kind: 'held', rollout: { ...held, ...said, state: 'paused', nextAt: null } }
    case 'resume': {
      if (!held) return refused(`no rollout of ${order.arm} is under way`)
      if (held.state === 'running' || held.state === 'done') return refused(inWords(held))
      if (held.steps.length === 0) return { kind: 'ended' }
      const why = roomFault(order, held.steps, others)
      if (why !== null) return refused(why)
      return { kind: 'held', rollout: atStep({ ...held, ...said }, held.step, now) }
    }
    case 'abort':
      if (held?.state === 'aborted') return refused(inWords(held))
      return { kind: 'held', rollout: { ...off(order, held), ...said, state: 'aborted' } }
    case 'end':
      return held ? { kind: 'ended' } : refused(`no rollout of ${order.arm} is under way`)
  }
}

/** An arm that its guard has turned off, whatever held for it before. @param now Unix milliseconds */
export const guarded = (
  name: ArmName,
  held: HeldRollout | null,
  why: string,
  now: number,
): HeldRollout => ({ ...off(name, held), state: 'guarded', since: now, by: 'guard', why })

/**
 * The next step, once its time has come; null: not yet. One step at a time, however late: each is to be
 * seen for as long as was asked.
 */
export const tick = (held: HeldRollout, now: number): HeldRollout | null =>
  held.state !== 'running' || held.nextAt === null || held.nextAt > now
    ? null
    : atStep(held, held.step + 1, now)

/**
 * A rollout out of a backup. What was off is off, and what had a share has it; one that goes on stays at its
 * step for a step's whole time, since its guard knows nothing yet, and nobody has watched it here.
 * @param now Unix milliseconds
 */
export const putBack = (held: HeldRollout, now: number): HeldRollout =>
  held.state === 'running' ? { ...held, nextAt: now + held.everyMs } : { ...held, nextAt: null }

/** `canary is being rolled out by ann, at 5 %`, for people. */
export const inWords = ({ arm, state, share, by }: Rollout): string => {
  const whose = by === null ? '' : ` by ${by}`
  switch (state) {
    case 'running':
      return `${arm} is being rolled out${whose}, at ${share} %`
    case 'paused':
      return `${arm} is paused${whose} at ${share} %`
    case 'done':
      return `${arm} has reached its last step, ${share} %`
    case 'aborted':
      return `${arm} is aborted${whose}`
    case 'guarded':
      return `${arm} was turned off by its guard`
  }
}

/** Why steps cannot be gone; null: they can. */
export function stepsFault(steps: readonly number[], everyMs: number): string | null {
  if (steps.length === 0 || steps.length > MOST_STEPS) return `give 1 to ${MOST_STEPS} steps`
  if (!steps.every((step) => step >= 0 && step <= 100)) return 'steps are percent, from 0 to 100'
  if (steps.some((step, i) => step <= (steps[i - 1] ?? -1))) {
    return 'each step must be higher than the one before'
  }
  const isTime = everyMs >= LEAST_EVERY_MS && everyMs <= MOST_EVERY_MS
  return isTime ? null : 'the time between two steps is from 1 second to 7 days'
}

/** Whether there is room for all that an arm is to have beside what others have, or are to have. */
function roomFault(
  { arm }: ArmName,
  steps: readonly number[],
  others: readonly HeldRollout[],
): string | null {
  const taken = others.reduce((total, other) => total + claimOf(other), 0)
  if (taken === 0 || (steps.at(-1) ?? 0) + taken <= 100) return null
  const names = others.filter((other) => claimOf(other) > 0).map((other) => other.arm)
  return `${names.join(' and ')} has ${taken} % of its own to come to: ${arm} can have ${100 - taken} % at most`
}

/** The most that a rollout gives its arm without another order. */
const claimOf = (held: HeldRollout): number => {
  if (isOff(held)) return 0
  return held.state === 'done' ? held.share : (held.steps.at(-1) ?? held.share)
}

const isSamePlan = (
  held: HeldRollout,
  order: { readonly steps: readonly number[]; readonly everyMs: number },
): boolean => held.everyMs === order.everyMs && held.steps.join() === order.steps.join()

function atStep(held: HeldRollout, step: number, now: number): HeldRollout {
  const isLast = step >= held.steps.length - 1
  return {
    ...held,
    step,
    share: held.steps[step] ?? held.share,
    state: isLast ? 'done' : 'running',
    nextAt: isLast ? null : now + held.everyMs,
    since: now,
  }
}

/** Keeps the steps and the place among them, for a resume. */
const off = ({ model, arm }: ArmName, held: HeldRollout | null) => ({
  model,
  arm,
  steps: held?.steps ?? [],
  everyMs: held?.everyMs ?? 0,
  step: held?.step ?? 0,
  share: 0,
  nextAt: null,
})

const refused = (why: string): Obeyed => ({ kind: 'refused', why })
