/** What rollouts and guards have made of arms' shares, through a backup and a loss. */
import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { FleetRecord, VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { ErrorBody } from './acme.ts'
import {
  GRAY,
  applied,
  canary,
  modelNow,
  order,
  reportBad,
  start,
  stepNow,
  weights,
} from './gray.ts'
import { fleet, fleetStub, operate } from './world.ts'

const EVERY_MS = 600_000

beforeEach(async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => {})
  await reset()
  await applied()
})

interface Backup extends FleetRecord {
  readonly versions: readonly VersionFile[]
}

async function backup(): Promise<Backup> {
  const record = await (await operate('GET', '/fleet/record')).json<FleetRecord>()
  const entries = await fleet().versions()
  const versions = await Promise.all(entries.map(({ version }) => fleet().file(version)))
  return { versions: versions.filter((file) => file !== null), ...record }
}

const restore = (what: object) => operate('POST', '/fleet/restore', JSON.stringify(what))

/** Puts something into an empty router. */
async function afterLoss(what: object) {
  await reset()
  const response = await restore(what)
  expect(response.status).toBe(201)
  return response.json<{ rollouts: object[] }>()
}

describe('a restored router', () => {
  it('has the shares of a rollout, whose step is watched anew for its whole time', async () => {
    await start(1, 5, 100)
    await stepNow()
    const { versions, rollouts } = await backup()
    const longAgo = rollouts.map((rollout) => ({ ...rollout, nextAt: 1 }))
    const { rollouts: held } = await afterLoss({ versions, rollouts: longAgo })
    expect(held).toMatchObject([{ model: 'qwen', arm: 'canary', state: 'running', share: 5 }])
    expect(await weights()).toEqual([95, 5])
    const { nextAt } = (await canary()).rollout!
    expect(nextAt).toBeGreaterThan(Date.now() + EVERY_MS / 2)
    const due = await runInDurableObject(fleetStub(), (_, { storage }) => storage.getAlarm())
    expect(due, 'and it goes on').toBe(nextAt)
    await abortAllDurableObjects()
    expect(await weights(), 'for good').toEqual([95, 5])
    await stepNow()
    expect(await weights()).toEqual([0, 100])
  })

  it('keeps off what a guard has turned off, until an operator resumes it where it was', async () => {
    await start(1, 20, 100)
    await stepNow()
    await reportBad()
    const { why } = (await canary()).rollout!
    await afterLoss(await backup())
    expect(await weights()).toEqual([100, 0])
    expect((await modelNow()).arms[1]?.off).toBe(true)
    expect((await canary()).rollout).toMatchObject({ state: 'guarded', by: 'guard', why })
    await order({ order: 'resume' })
    expect(await weights()).toEqual([80, 20])
  })

  it('leaves a rollout paused, and one that has reached its end where it is', async () => {
    await start(5, 50)
    await order({ order: 'pause' })
    await afterLoss(await backup())
    expect((await canary()).rollout).toMatchObject({ state: 'paused', share: 5, nextAt: null })
    await order({ order: 'resume' })
    await stepNow()
    await afterLoss(await backup())
    expect((await canary()).rollout).toMatchObject({ state: 'done', share: 50, nextAt: null })
  })

  it('goes by the file where the backup has no rollouts, or they were made for other arms', async () => {
    await start(50)
    const { versions, rollouts } = await backup()
    expect(await afterLoss({ versions })).toMatchObject({ rollouts: [] })
    expect(await weights()).toEqual([90, 10])
    const [newest] = versions
    const heavier = { ...newest!, version: 2, yaml: GRAY.replace('weight: 10,', 'weight: 20,') }
    const gone = { ...rollouts[0]!, model: 'gone', arms: '' }
    const all = { versions: [...versions, heavier], rollouts: [...rollouts, gone] }
    expect(await afterLoss(all)).toMatchObject({ rollouts: [] })
    expect(await weights()).toEqual([90, 20])
    expect((await backup()).rollouts).toEqual([])
  })

  it('takes no rollouts that cannot be, and then nothing at all', async () => {
    await start(50)
    const { versions, rollouts } = await backup()
    const [held] = rollouts
    await reset()
    for (const [wrong, param] of [
      [[held, held], 'rollouts'],
      [[{ ...held, share: 101 }], 'rollouts.0.share'],
      [[{ ...held, state: 'gone' }], 'rollouts.0.state'],
    ] as const) {
      const response = await restore({ versions, rollouts: wrong })
      const { error } = await response.json<ErrorBody>()
      expect([error.code, error.param]).toEqual(['invalid_value', param])
    }
    expect(await fleet().versions()).toEqual([])
  })
})
