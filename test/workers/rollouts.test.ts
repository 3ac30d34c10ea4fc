/** Rollouts in the real object: what they put on top of a version, what survives, what ends them. */
import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  GRAY,
  NAME,
  applied,
  backTo,
  canary,
  modelNow,
  order,
  snapshotNow,
  start,
  stepNow,
  weights,
} from './gray.ts'
import { fleet, fleetStub } from './world.ts'

beforeEach(async () => {
  await reset()
  await applied()
})

const HEAVIER = GRAY.replace('weight: 10,', 'weight: 20,')
const OTHER_CHANGE = GRAY.replaceAll('slots: 2', 'slots: 3')

describe('a rollout', () => {
  it('holds on top of the version, which stays as it was written', async () => {
    const { version, revision } = await snapshotNow()
    expect(await start(1, 5, 100)).toMatchObject({ kind: 'taken', rollout: { share: 1 } })
    expect(await weights()).toEqual([99, 1])
    const now = await snapshotNow()
    expect(now.version).toBe(version)
    expect(now.revision).toBeGreaterThan(revision!)
    expect((await fleet().file(null))?.yaml).toBe(GRAY)
    expect(await canary()).toMatchObject({ share: 1, fileWeight: 10, weight: 1 })
  })

  it('is told to those who know an older revision, and to nobody else', async () => {
    const { version, revision } = await snapshotNow()
    await start(5)
    expect((await fleet().snapshot(version, revision))?.models['qwen']?.arms[1]?.weight).toBe(5)
    const { revision: newer } = await snapshotNow()
    expect(await fleet().snapshot(version, newer)).toBeNull()
    expect(await fleet().snapshot(version), 'a Worker of the release before').toBeNull()
  })

  it('goes its steps by the alarm, with the next one set', async () => {
    await start(1, 5, 100)
    const due = () => runInDurableObject(fleetStub(), (_, { storage }) => storage.getAlarm())
    expect(await due()).toBeGreaterThan(Date.now() + 590_000)
    await stepNow()
    expect(await weights()).toEqual([95, 5])
    expect(await due()).toBeGreaterThan(Date.now() + 590_000)
    await stepNow()
    expect(await weights()).toEqual([0, 100])
    expect((await canary()).rollout).toMatchObject({ state: 'done', nextAt: null })
    expect(await due()).toBeNull()
  })

  it('survives the object, alarm and revision and all', async () => {
    await start(1, 5)
    await order({ order: 'pause' }, { by: 'bob', message: 'lunch' })
    const before = await snapshotNow()
    await abortAllDurableObjects()
    expect(await snapshotNow()).toEqual(before)
    expect((await canary()).rollout).toMatchObject({ state: 'paused', by: 'bob', why: 'lunch' })
    await order({ order: 'resume' })
    await runInDurableObject(fleetStub(), (_, { storage }) => storage.deleteAlarm())
    await abortAllDurableObjects()
    await snapshotNow()
    const alarm = await runInDurableObject(fleetStub(), (_, { storage }) => storage.getAlarm())
    expect(alarm, 'one that a release without alarms has let pass').not.toBeNull()
  })

  it('has revisions that rise even where the storage was lost', async () => {
    await start(1)
    const { revision } = await snapshotNow()
    const versions = [(await fleet().file(null))!]
    await reset()
    await fleet().restore(versions)
    expect((await snapshotNow()).revision).toBeGreaterThan(revision!)
  })

  it('says of an arm that is off, and of no other, that no conversation may keep it', async () => {
    const off = async () => (await modelNow()).arms.map((arm) => arm.off)
    expect(await off()).toEqual([undefined, undefined])
    await start(1, 5)
    await order({ order: 'pause' })
    expect(await off(), 'weight or not').toEqual([undefined, undefined])
    await order({ order: 'abort' })
    expect(await off()).toEqual([undefined, true])
    await order({ order: 'end' })
    expect(await off()).toEqual([undefined, undefined])
  })

  it('is given by one of two operators at once; the other is told', async () => {
    const [first, second] = await Promise.all([
      order({ order: 'start', steps: [1, 50] }),
      order({ order: 'start', steps: [2, 100] }, { by: 'bob' }),
    ])
    expect(first).toMatchObject({ kind: 'taken', rollout: { by: 'ann', share: 1 } })
    expect(second).toMatchObject({
      kind: 'refused',
      why: expect.stringContaining('by ann, at 1 %') as string,
    })
    expect(await weights()).toEqual([99, 1])
  })

  it('is not of the first arm, nor of one that is not there', async () => {
    expect(await order({ order: 'abort' }, { arm: 'stable' })).toMatchObject({ kind: 'refused' })
    expect(await order({ order: 'abort' }, { arm: 'x' })).toEqual({
      kind: 'no-arm',
      arms: ['stable', 'canary'],
    })
    expect(await order({ order: 'abort' }, { model: 'x' })).toEqual({ kind: 'no-model' })
    expect(await order({ order: 'abort' }, { model: '__proto__' })).toEqual({ kind: 'no-model' })
  })

  it('is remembered: who did what, and what came by itself', async () => {
    await start(1, 5)
    await stepNow()
    await order({ order: 'abort' }, { by: 'bob', message: 'too slow' })
    const [model] = await fleet().models!()
    expect(model!.changes).toMatchObject([
      { event: 'abort', by: 'bob', share: 0, why: 'too slow', arm: 'canary' },
      { event: 'step', by: null, share: 5 },
      { event: 'start', by: 'ann', share: 1 },
    ])
  })
})

describe('a version', () => {
  it("that changes a model's arms ends its rollouts, and says so", async () => {
    await start(50)
    expect((await applied(HEAVIER)).ended).toEqual([NAME])
    expect(await weights()).toEqual([90, 20])
    expect(await order({ order: 'end' })).toMatchObject({ kind: 'refused' })
  })

  it('that changes anything else keeps them', async () => {
    await start(50)
    const { revision } = await snapshotNow()
    expect((await applied(OTHER_CHANGE)).ended).toEqual([])
    expect(await weights()).toEqual([50, 50])
    expect((await snapshotNow()).revision).toBeGreaterThan(revision!)
  })

  it('to go back to does as its arms say', async () => {
    await applied(OTHER_CHANGE)
    await start(50)
    expect(await backTo(1)).toMatchObject({ ended: [] })
    expect(await weights()).toEqual([50, 50])
    await applied(HEAVIER)
    await start(50)
    expect(await backTo(1)).toMatchObject({ ended: [NAME] })
    expect(await weights()).toEqual([90, 10])
  })

  it('that a release without rollouts has made ends them as well', async () => {
    await start(50)
    await runInDurableObject(fleetStub(), (_, { storage: { sql } }) => {
      sql.exec(
        "INSERT INTO versions (version, at, models, pools, yaml, compiled) VALUES (2, 1, 2, 2, ?, '{}')",
        HEAVIER,
      )
    })
    await abortAllDurableObjects()
    expect(await weights()).toEqual([90, 20])
    expect((await canary()).rollout).toBeNull()
    await abortAllDurableObjects()
    await backTo(1)
    expect(await weights(), 'for good').toEqual([90, 10])
  })

  it('that fails half way has not happened: old version, old rollouts, old revision', async () => {
    await start(50)
    const before = await snapshotNow()
    await runInDurableObject(fleetStub(), async (object, { storage: { sql } }) => {
      sql.exec(
        `CREATE TRIGGER crash BEFORE DELETE ON rollouts BEGIN SELECT RAISE(ABORT, 'crash'); END`,
      )
      const crash = object.apply({
        yaml: HEAVIER,
        ifVersion: null,
        secrets: ['ALERT_URL', 'OTHER_URL'],
      })
      await expect(crash).rejects.toThrow('crash')
      sql.exec('DROP TRIGGER crash')
    })
    expect(await snapshotNow()).toEqual(before)
    await abortAllDurableObjects()
    expect(await snapshotNow()).toEqual(before)
    expect(await fleet().versions()).toHaveLength(1)
  })
})
