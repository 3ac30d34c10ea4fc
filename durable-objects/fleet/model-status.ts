import { summaryOf } from './arm-window.ts'
import type { ArmSummary, ModelStatus } from './contract.ts'
import { SHADOW_ARM } from '../pool/contract.ts'
import type { GuardWatch } from './guard-watch.ts'
import { sharesOf } from './overlay.ts'
import { shown, type Rollouts } from './rollouts.ts'
import type { ModelRoute, Snapshot } from './snapshot.ts'

/** What operators are shown of each model: shares as they hold, rollouts, figures. */
export function modelStatuses(
  version: Snapshot,
  rollouts: Rollouts,
  watch: GuardWatch,
): readonly ModelStatus[] {
  const holding = rollouts.snapshot?.models ?? {}
  return Object.values(version.models).map((model) => {
    const { name, guard = null, shadow = null } = model
    const { arms } = holding[name] ?? model
    const shares = sharesOf(arms)
    const held = rollouts.of(name)
    // Of one arm, with nothing beside it, nobody counts.
    const isCompared = model.arms.length > 1 || shadow !== null
    const figures = (arm: string) => (isCompared ? figuresOf(watch, model, arm) : null)
    return {
      model: name,
      arms: arms.map((arm, i) => {
        const rollout = held.find((it) => it.arm === arm.name)
        return {
          ...arm,
          share: shares.get(arm.name) ?? 0,
          fileWeight: model.arms[i]?.weight ?? 0,
          rollout: rollout ? shown(rollout) : null,
          figures: figures(arm.name),
        }
      }),
      guard,
      shadow: shadow && { ...shadow, figures: figures(SHADOW_ARM) },
      changes: rollouts.changes(name),
    }
  })
}

const NONE = { requests: 0, failed: 0, truncated: 0, empty: 0, lost: 0, ttft: {}, interToken: {} }

const figuresOf = (watch: GuardWatch, model: ModelRoute, arm: string): ArmSummary =>
  summaryOf(watch.totals(model, arm) ?? NONE)
