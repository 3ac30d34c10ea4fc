/** The guard in the real object: by pools' reports, for good, and told to who wants to hear of it. */
import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest'
import {
  GRAY,
  applied,
  canary,
  earlier,
  figures,
  modelNow,
  order,
  report,
  reportNow,
  reportBad,
  ring,
  snapshotNow,
  start,
  weights,
} from './gray.ts'
import { fleet, fleetStub, upstream } from './world.ts'

const WHY = 'errors 12.0 % of 100 requests, the other arms 0.0 % of 900'
const received = {
  posts: [] as Record<string, unknown>[],
  status: 200,
  /** No answer is given before. */
  until: Promise.resolve(),
}
let warned: MockInstance<typeof console.warn>

beforeEach(async () => {
  await reset()
  Object.assign(env, { ALERT_URL: 'https://hooks.test/secret', OTHER_URL: 'https://other.test/' })
  received.posts = []
  received.status = 200
  received.until = Promise.resolve()
  upstream.answer = async ({ host, request }) => {
    if (!host.endsWith('.test') || request.method !== 'POST')
      return new Response(null, { status: 404 })
    received.posts.push({ host, ...(await request.json<object>()) })
    await received.until
    return new Response(null, { status: received.status })
  }
  warned = vi.spyOn(console, 'warn').mockImplementation(() => {})
  await applied()
})

describe('a guard', () => {
  it('turns an arm off, for everybody at once, and says why', async () => {
    await start(20, 100)
    const { revision } = await snapshotNow()
    await reportBad()
    expect(await weights()).toEqual([100, 0])
    expect((await modelNow()).arms[1]?.off, 'no conversation keeps it').toBe(true)
    expect((await snapshotNow()).revision).toBeGreaterThan(revision!)
    const { rollout, figures: shown } = await canary()
    expect(rollout).toMatchObject({
      state: 'guarded',
      share: 0,
      by: 'guard',
      why: WHY,
      nextAt: null,
    })
    expect(shown).toMatchObject({ requests: 100, truncated: 12 })
    expect(warned).toHaveBeenCalledWith(expect.stringContaining(WHY))
    await abortAllDurableObjects()
    expect(await weights(), 'for good').toEqual([100, 0])
  })

  it('waits until all pools have told of what one has told, and looks again', async () => {
    await earlier(() => reportNow(figures('stable'), figures('canary', { failed: 50 })))
    await reportNow(figures('stable', { requests: 900, failed: 450 }))
    await report(figures('canary', { failed: 50 }), figures('stable', { failed: 50 }))
    expect(await weights(), 'a failure that all arms share').toEqual([90, 10])
  })

  it('forgets what an arm has done when its rollout is ended, and not when an order is only repeated', async () => {
    await reportBad()
    await order({ order: 'end' })
    await report(figures('canary', { requests: 0 }))
    expect(await weights(), 'the old figures are forgotten').toEqual([90, 10])
    await start(20, 50)
    await report(
      figures('stable', { requests: 900 }),
      figures('canary', { requests: 40, failed: 8 }),
    )
    await start(20, 50)
    expect((await canary()).figures?.requests, 'nothing has begun anew').toBe(40)
  })

  it('looks again by itself where no more requests come, and so no more reports', async () => {
    await earlier(() =>
      reportNow(figures('stable', { requests: 900 }), figures('canary', { truncated: 12 })),
    )
    expect(await weights(), 'not yet').toEqual([90, 10])
    await ring()
    expect(await weights()).toEqual([100, 0])
  })

  it('turns off an arm that has its share from the file, until it is resumed', async () => {
    await reportBad()
    expect(await weights()).toEqual([100, 0])
    expect(await order({ order: 'resume' })).toEqual({ kind: 'taken', rollout: null })
    expect(await weights()).toEqual([90, 10])
  })

  it('sums up what pools report, and forgets it when the arm begins anew', async () => {
    await report(
      figures('stable', { requests: 900 }),
      figures('canary', { requests: 40, failed: 8 }),
    )
    expect(await weights(), 'too few').toEqual([90, 10])
    await start(30)
    await report(figures('canary', { requests: 40, failed: 8 }))
    expect(await weights(), 'too few since the start').toEqual([70, 30])
    await report(figures('canary', { requests: 40, failed: 8 }))
    expect(await weights()).toEqual([100, 0])
    await order({ order: 'resume' })
    expect((await canary()).figures?.requests).toBe(0)
    await report(figures('canary', { requests: 40, failed: 8 }))
    expect(await weights()).toEqual([70, 30])
  })

  it('leaves the first arm, an arm that is like the others, and models without a guard', async () => {
    await report(figures('stable', { failed: 90 }), figures('canary'))
    await report(figures('stable', { failed: 90 }), figures('canary', { failed: 100 }))
    const other = { model: 'org/model:tag' }
    await report(figures('stable', other), figures('canary', { ...other, failed: 100 }))
    expect(await weights()).toEqual([90, 10])
    const unguarded = (await snapshotNow()).models['org/model:tag']
    expect(unguarded?.arms.map(({ weight }) => weight)).toEqual([1, 0])
    const [, shown] = await fleet().models!()
    expect(shown?.arms[1]?.figures, 'which is shown all the same').toMatchObject({ failed: 100 })
  })

  it('takes no report of what is not there', async () => {
    await report(
      figures('nobody', { failed: 100 }),
      figures('shadow', { failed: 100 }),
      figures('canary', { model: 'gone', failed: 100 }),
      figures('canary', { model: '__proto__', failed: 100 }),
    )
    expect(await weights()).toEqual([90, 10])
  })

  it('begins anew with an arm that leads to another pool', async () => {
    await report(
      figures('stable', { requests: 900 }),
      figures('canary', { requests: 40, failed: 8 }),
    )
    await applied(
      GRAY.replace(
        '{ pool: q, weight: 10, name: canary }',
        '{ pool: p, weight: 10, name: canary }',
      ),
    )
    expect((await canary()).figures?.requests).toBe(0)
    expect((await fleet().models!())[0]!.arms[0]!.figures?.requests).toBe(900)
  })
})

describe('a webhook', () => {
  const posts = () => received.posts
  /** Until no notice is on its way any more. */
  const gone = () =>
    vi.waitFor(
      () =>
        runInDurableObject(fleetStub(), (_, { storage }) => expect(due(storage.sql)).toEqual([])),
      { timeout: 5_000 },
    )
  const alarm = () => runInDurableObject(fleetStub(), (_, { storage }) => storage.getAlarm())
  const due = (sql: SqlStorage) => sql.exec('SELECT attempts, due FROM guard_notices').toArray()

  it('is told of an arm that was turned off, once', async () => {
    await reportBad()
    await vi.waitFor(() => expect(posts()).toHaveLength(1))
    expect(posts()).toEqual([
      {
        host: 'hooks.test',
        event: 'guard',
        model: 'qwen',
        arm: 'canary',
        why: WHY,
        at: expect.any(Number),
        fleet: 1,
      },
    ])
    await reportBad()
    await ring()
    expect(posts()).toHaveLength(1)
    await gone()
  })

  it('that takes its time keeps neither rollouts nor guards waiting, and is told once', async () => {
    const receiver = Promise.withResolvers<void>()
    received.until = receiver.promise
    await reportBad()
    await vi.waitFor(() => expect(posts()).toHaveLength(1))
    expect(await alarm(), 'should the object be reset meanwhile').not.toBeNull()
    const other = { model: 'org/model:tag' }
    await order({ order: 'start', steps: [1, 5], everyMs: 1_000 }, other)
    const stepped = async () =>
      (await snapshotNow()).models['org/model:tag']!.arms.map(({ weight }) => weight)
    await vi.waitFor(async () => expect(await stepped()).toEqual([95, 5]), { timeout: 6_000 })
    expect(posts(), 'by an alarm, while it was being told').toHaveLength(1)
    receiver.resolve()
    await gone()
    expect(posts()).toHaveLength(1)
    await vi.waitFor(async () => expect(await alarm(), 'nothing is left to be done').toBeNull())
  })

  it('that is out of order is told again later, also by an object that was reset meanwhile', async () => {
    received.status = 500
    await reportBad()
    await vi.waitFor(() => expect(posts()).toHaveLength(1))
    await vi.waitFor(() =>
      runInDurableObject(fleetStub(), async (_, { storage }) => {
        expect(due(storage.sql)).toEqual([{ attempts: 1, due: expect.any(Number) as number }])
        expect(await storage.getAlarm()).toBeGreaterThan(Date.now() + 20_000)
      }),
    )
    await abortAllDurableObjects()
    received.status = 200
    await runInDurableObject(fleetStub(), async (object, { storage }) => {
      storage.sql.exec('UPDATE guard_notices SET due = 0')
      await object.alarm()
    })
    await gone()
    expect(posts()).toHaveLength(2)
  })

  it('is told if and only if the arm is off', async () => {
    await runInDurableObject(fleetStub(), async (object, { storage: { sql } }) => {
      const arms = [figures('stable', { requests: 900 }), figures('canary', { failed: 50 })]
      await earlier(() => object.report({ pool: 'q', arms }))
      for (const table of ['revision', 'guard_notices']) {
        sql.exec(
          `CREATE TRIGGER crash BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'crash'); END`,
        )
        await expect(object.report({ pool: 'q', arms })).rejects.toThrow('crash')
        sql.exec('DROP TRIGGER crash')
        expect(due(sql)).toEqual([])
        expect((await object.snapshot(0))?.models['qwen']?.arms[1]?.weight).toBe(10)
      }
    })
    expect(received.posts).toEqual([])
  })
})
