import { beforeEach, describe, expect, it } from 'vitest'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { Snapshots, type SnapshotSource } from '../../worker/routing/snapshots.ts'
import { settled, snapshot } from './core-builders.ts'

describe('Snapshots', () => {
  let clock = 0
  let loads: number[] = []
  let answer: (known: number) => Promise<Snapshot | null>
  let deferred: Promise<unknown>[] = []
  /** How long was waited at most, and the end of that. */
  let patience: number[] = []
  let slept: Promise<void>
  const source: SnapshotSource = {
    load: (known) => {
      loads.push(known)
      return answer(known)
    },
    now: () => clock,
    sleep: (ms) => {
      patience.push(ms)
      return slept
    },
    defer: (work) => void deferred.push(work),
  }
  const version = (n: number) => () => Promise.resolve(snapshot({ version: n }))
  const unreachable = () => Promise.reject(new Error('out of reach'))
  const current = async (snapshots: Snapshots) => (await snapshots.current(source)).version

  beforeEach(() => {
    clock = 1_000
    loads = []
    deferred = []
    patience = []
    slept = new Promise(() => {})
    answer = version(1)
  })

  it('load once, and do not even ask while what they have is fresh', async () => {
    const snapshots = new Snapshots()
    expect(await current(snapshots)).toBe(1)
    clock += 900
    expect(await current(snapshots)).toBe(1)
    expect(loads).toEqual([0])
  })

  it("are checked behind one request's back when a little older", async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 2_000
    let arrive!: (loaded: Snapshot) => void
    answer = () => new Promise((resolve) => (arrive = resolve))
    expect(await current(snapshots), 'this request does not wait').toBe(1)
    expect(await current(snapshots), 'nor does the next one ask again').toBe(1)
    expect(loads).toEqual([0, 1])
    arrive(snapshot({ version: 2 }))
    await Promise.all(deferred)
    expect(await current(snapshots)).toBe(2)
  })

  it('are waited for when they are too old to be used', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 11_000
    answer = version(2)
    expect(await current(snapshots)).toBe(2)
  })

  it('are not asked for at every request while the fleet’s object is out of reach', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = unreachable
    for (const later of [11_000, 100, 100]) {
      clock += later
      expect(await current(snapshots)).toBe(1)
    }
    expect(loads, 'the first, and one that failed').toHaveLength(2)
  })

  it('are not waited for for ever: with none to go on with, a request is refused', async () => {
    answer = () => new Promise(() => {})
    slept = Promise.resolve()
    await expect(current(new Snapshots())).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(patience).toEqual([5_000])
  })

  it("keep one request waiting while the fleet's object is silent, not each", async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 11_000
    answer = () => new Promise(() => {})
    slept = Promise.resolve()
    expect(await current(snapshots)).toBe(1)
    const waits = patience.length
    expect(await current(snapshots)).toBe(1)
    expect(patience).toHaveLength(waits)
  })

  it('stay when there is nothing newer', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    clock += 11_000
    expect(await current(snapshots)).toBe(1)
    clock += 900
    await current(snapshots)
    expect(loads, 'being told so counts as a check').toHaveLength(2)
  })

  it('never go back to an older version', async () => {
    answer = version(5)
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = version(4)
    clock += 11_000
    expect(await current(snapshots)).toBe(5)
  })

  it.each([2_000, 11_000, 3_600_000])(
    'go on serving with the fleet object out of reach for %d ms',
    async (later) => {
      const snapshots = new Snapshots()
      await current(snapshots)
      answer = unreachable
      clock += later
      expect(await current(snapshots)).toBe(1)
      await Promise.all(deferred)
      expect((await snapshots.reload(source)).version).toBe(1)
    },
  )

  it('refuse with 503 where there never was one, each time asking anew', async () => {
    const snapshots = new Snapshots()
    answer = unreachable
    await expect(current(snapshots)).rejects.toMatchObject({ code: 'router_unavailable' })
    answer = () => Promise.resolve(null)
    await expect(current(snapshots)).rejects.toMatchObject({ code: 'router_unavailable' })
    answer = version(1)
    expect(await current(snapshots)).toBe(1)
    expect(loads).toHaveLength(3)
  })

  it('load anew when a pool has told of a newer version', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = version(2)
    expect((await snapshots.reload(source)).version).toBe(2)
    expect(snapshots.latest?.version).toBe(2)
  })

  it.each([11_000, 3_600_000])(
    'wait no longer than a second for news of one that is %d ms old',
    async (later) => {
      const snapshots = new Snapshots()
      await current(snapshots)
      patience = []
      let arrive!: (loaded: Snapshot) => void
      answer = () => new Promise((resolve) => (arrive = resolve))
      slept = Promise.resolve()
      clock += later
      expect(await current(snapshots), 'the old one goes on').toBe(1)
      expect((await snapshots.reload(source)).version).toBe(1)
      expect(Math.max(...patience)).toBeLessThanOrEqual(1_000)
      arrive(snapshot({ version: 2 }))
      await deferred.at(-1)
      expect(snapshots.latest?.version, 'what comes later is not lost').toBe(2)
    },
  )

  it('wait for the first one', async () => {
    const snapshots = new Snapshots()
    let arrive!: (loaded: Snapshot) => void
    answer = () => new Promise((resolve) => (arrive = resolve))
    const first = current(snapshots)
    await settled()
    arrive(snapshot({ version: 1 }))
    expect(await first).toBe(1)
  })

  it('have news for a name that they lack, once there is a newer version', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    expect(await snapshots.news(source, 1), 'nothing is newer').toBeNull()
    clock += 500
    answer = version(2)
    expect((await snapshots.news(source, 1))?.version, 'fresh or not').toBe(2)
  })

  it('do not look for news at every name that somebody invents', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    for (let i = 0; i < 100; i++) expect(await snapshots.news(source, 1)).toBeNull()
    expect(loads, 'the first one, and one look for news').toHaveLength(2)
  })

  it('look for news once for all who ask at the same moment, and tell all of them', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    let arrive!: (loaded: Snapshot) => void
    answer = () => new Promise((resolve) => (arrive = resolve))
    let wake!: () => void
    slept = new Promise((resolve) => (wake = resolve))
    const all = Array.from({ length: 500 }, () => snapshots.news(source, 1))
    await settled()
    expect(loads, 'the first one, and one look for news').toHaveLength(2)
    arrive(snapshot({ version: 2 }))
    await settled()
    wake()
    const news = await Promise.all(all)
    expect(new Set(news.map((it) => it?.version))).toEqual(new Set([2]))
    expect(loads).toHaveLength(2)
  })

  it('look for news again 100 ms later, however long the one before has taken', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    await snapshots.news(source, 1)
    clock += 99
    await snapshots.news(source, 1)
    expect(loads).toHaveLength(2)
    clock += 1
    await snapshots.news(source, 1)
    expect(loads).toHaveLength(3)
  })

  it('wait for another one’s look no longer than he does, and look by themselves should he be lost', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    const lost = { ...source, sleep: () => new Promise<void>(() => {}) }
    answer = () => new Promise(() => {})
    void snapshots.news(lost, 1)
    patience = []
    slept = Promise.resolve()
    expect(await snapshots.news(source, 1)).toBeNull()
    expect(patience.reduce((sum, ms) => sum + ms, 0)).toBe(1_000)
    clock += 1_000
    answer = version(2)
    expect((await snapshots.news(source, 1))?.version).toBe(2)
  })

  it('have the news at once that came while somebody was looking a name up', async () => {
    const snapshots = new Snapshots()
    answer = version(2)
    await current(snapshots)
    expect((await snapshots.news(source, 1))?.version).toBe(2)
    expect(loads, 'nothing was loaded for it').toHaveLength(1)
  })

  it('have no news from a fleet object that is out of reach', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = unreachable
    expect(await snapshots.news(source, 1)).toBeNull()
  })
})
