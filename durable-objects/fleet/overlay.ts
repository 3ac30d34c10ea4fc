import type { Arm, ModelRoute, Rule, RuleLead } from './snapshot.ts'
import type { Rollout } from './contract.ts'

/** The part of a rollout that decides where requests go. */
export type ArmHold = Pick<Rollout, 'arm' | 'share' | 'state'>

/**
 * A model's arms as they hold: a rollout's arm has its share in percent, the others share what is left
 * as their weights in the file are to each other.
 *
 * The others' proportions never change, so that under weighted rendezvous hashing a raised share only
 * moves cohorts to that arm (`docs/decisions/0006`), and a rollout that begins at the share that the file
 * gives moves nobody. Beside another rollout, whose percentage stays exact, some also move to that one: it
 * gains from the others what it loses to the raised arm. Never does anybody move back.
 *
 * @param arms as the file has them, the first without a rollout
 * @returns the same arms where none has a rollout
 */
export function withRollouts(
  arms: readonly Arm[],
  rollouts: readonly Pick<ArmHold, 'arm' | 'share'>[],
): readonly Arm[] {
  const shares = new Map(
    rollouts
      .filter(({ arm }) => arms.some(({ name }) => name === arm))
      .map(({ arm, share }) => [arm, share] as const),
  )
  if (shares.size === 0) return arms
  const left = Math.max(0, 100 - sum([...shares.values()]))
  const others = arms.filter(({ name }) => !shares.has(name))
  const weights = sum(others.map(({ weight }) => weight))
  // Where the file gives the others nothing, what is left is the first one's.
  const rest = (arm: Arm): number =>
    weights > 0 ? (left * arm.weight) / weights : arm === others[0] ? left : 0
  return arms.map((arm) => ({ ...arm, weight: shares.get(arm.name) ?? rest(arm) }))
}

/** Shares of arms in percent, by name; all 0 where no arm has a weight. */
export function sharesOf(arms: readonly Arm[]): ReadonlyMap<string, number> {
  const weights = sum(arms.map(({ weight }) => weight))
  return new Map(
    arms.map(({ name, weight }) => [name, weights === 0 ? 0 : (100 * weight) / weights] as const),
  )
}

/** Whether a guard or an operator has sent everybody away from an arm. */
export const isOff = ({ state }: Pick<ArmHold, 'state'>): boolean =>
  state === 'guarded' || state === 'aborted'

/**
 * A model as its rollouts make it. No rule leads to an arm that is off: what it named falls to the next
 * rule, or to the weights. Who names the arm himself (`model@arm`) still gets there. Rules that are passed
 * over stay in their places, which is what the others are known by.
 */
export function modelWithRollouts(model: ModelRoute, rollouts: readonly ArmHold[]): ModelRoute {
  if (rollouts.length === 0) return model
  const off = new Set(rollouts.filter(isOff).map(({ arm }) => arm))
  return {
    ...model,
    arms: withRollouts(model.arms, rollouts).map((arm) =>
      off.has(arm.name) ? { ...arm, off: true } : arm,
    ),
    ...(model.rules && { rules: model.rules.map((rule) => ruleWithout(rule, off)) }),
  }
}

function ruleWithout(rule: Rule, off: ReadonlySet<string>): Rule {
  const lead = leadWithout(rule.lead, off)
  return lead ? { ...rule, lead } : { ...rule, off: true }
}

function leadWithout(lead: RuleLead, off: ReadonlySet<string>): RuleLead | null {
  switch (lead.kind) {
    case 'model':
      return lead
    case 'arm':
      return off.has(lead.arm) ? null : lead
    case 'arms': {
      const weights = Object.entries(lead.weights).filter(([arm]) => !off.has(arm))
      const some = weights.some(([, weight]) => weight > 0)
      return some ? { kind: 'arms', weights: Object.fromEntries(weights) } : null
    }
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
