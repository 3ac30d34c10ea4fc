/** What `penstock backup` takes of the fleet and `penstock restore` puts back: versions, and what rollouts hold. */
import { Hono } from 'hono'
import { z } from 'zod'
import type { FleetRecord } from '../../durable-objects/fleet/contract.ts'
import { MOST_STEPS } from '../../durable-objects/fleet/rollout.ts'
import { isUnknownMethod } from '../../durable-objects/unknown-method.ts'
import { fleetObject, type AppEnv, type Bindings } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { invalidFleet } from './fleet.ts'
import { inputOf, MAX_BACKUP_BYTES } from './input.ts'
import { FLEET_SERVICE } from './words.ts'

/** Below `/admin/fleet`. */
export const fleetBackupRoutes = new Hono<AppEnv>()

fleetBackupRoutes.get('/record', async (c) =>
  c.json(await reach(FLEET_SERVICE, () => recordOf(c.env))),
)

// All versions at once, and only where there is none yet: nobody routes by half a backup.
fleetBackupRoutes.post('/restore', async (c) => {
  const { versions, rollouts } = await inputOf(c.req.raw, FleetInput, MAX_BACKUP_BYTES)
  const restored = await reachOnce(FLEET_SERVICE, () =>
    fleetObject(c.env).restore(versions, rollouts),
  )
  switch (restored.kind) {
    case 'applied': {
      const { version, pools, rollouts: held = [] } = restored
      return c.json({ version, pools, rollouts: held }, 201)
    }
    case 'conflict':
      throw new Refusal(
        'conflict',
        `There is a fleet already, of version ${restored.version}: versions are restored where there is none.`,
        { extra: { version: restored.version } },
      )
    case 'invalid':
      throw invalidFleet(restored.problems)
  }
})

/** What is beside the versions. An object of the release before has nothing there. */
async function recordOf(env: Bindings): Promise<FleetRecord> {
  try {
    const record = await fleetObject(env).record?.()
    return { rollouts: record?.rollouts ?? [] }
  } catch (cause) {
    if (isUnknownMethod(cause)) return { rollouts: [] }
    throw cause
  }
}

const time = z.int().min(0)
const count = z.int().min(0)
const percent = z.number().min(0).max(100)

// Neither is strict inside: a backup of a later release may say more, which this one does not keep.
const Version = z.object({
  version: z.int().min(1),
  at: time,
  models: count,
  pools: count,
  yaml: z.string(),
  by: z.string().nullable().exactOptional(),
  message: z.string().nullable().exactOptional(),
})
const Rollout = z.object({
  model: z.string(),
  arm: z.string(),
  state: z.enum(['running', 'paused', 'done', 'aborted', 'guarded']),
  share: percent,
  steps: z.array(percent).max(MOST_STEPS),
  step: z.int().min(0).max(MOST_STEPS),
  everyMs: time,
  nextAt: time.nullable(),
  since: time,
  by: z.string().nullable(),
  why: z.string().nullable(),
  arms: z.string(),
})

const isEachOnce = (names: readonly unknown[]): boolean => new Set(names).size === names.length

const FleetInput = z.strictObject({
  versions: z
    .array(Version)
    .min(1, 'needs at least one version')
    .refine(
      (versions) => isEachOnce(versions.map(({ version }) => version)),
      'has a version twice',
    ),
  rollouts: z
    .array(Rollout)
    .refine(
      (rollouts) => isEachOnce(rollouts.map(({ model, arm }) => JSON.stringify([model, arm]))),
      'has an arm twice',
    )
    .default([]),
})
