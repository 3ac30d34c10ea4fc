import type { ArmStatus, ModelStatus } from '../../durable-objects/fleet/contract.ts'
import { gauge, type Metric, type Sample } from './exposition.ts'

/**
 * The metrics of all models' arms. How their requests went is counted by the pools; what is here are shares,
 * and the figures by which guards judge, which go up and down.
 */
export function armMetrics(models: readonly ModelStatus[]): Metric[] {
  const ofArm = (read: (arm: ArmStatus) => number | null | undefined): Sample[] =>
    models.flatMap(({ model, arms }) =>
      arms.map((arm): Sample => [{ model, arm: arm.name }, read(arm)]),
    )
  return [
    gauge(
      'arm_share',
      'Share of the cohorts that the arm has, 0 to 1.',
      ofArm(({ share }) => share / 100),
    ),
    gauge(
      'arm_rollout',
      'In which state the rollout of the arm is: 1 for that state. Nothing: the weight in the file holds.',
      models.flatMap(({ model, arms }) =>
        arms.flatMap(({ name: arm, rollout }): Sample[] =>
          rollout ? [[{ model, arm, state: rollout.state }, 1]] : [],
        ),
      ),
    ),
    gauge(
      'arm_window_requests',
      "Requests that ended within the guard's window.",
      ofArm(({ figures }) => figures?.requests),
    ),
    gauge(
      'arm_window_bad_requests',
      'Of them, those that failed, were cut short, or ended with nothing in them.',
      models.flatMap(({ model, arms }) =>
        arms.flatMap(({ name: arm, figures }): Sample[] =>
          (['failed', 'truncated', 'empty'] as const).map((how) => [
            { model, arm, how },
            figures?.[how],
          ]),
        ),
      ),
    ),
  ]
}
