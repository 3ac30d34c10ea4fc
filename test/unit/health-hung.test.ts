/** Instances that take connections and never answer, among others, on a clock of the test's own (L13). */
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CONFIG, pool, type Manner } from './health-crowd.ts'

/** A Worker may wait for so many answers at once. */
const CALLS = 6

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 })
})
afterEach(() => {
  vi.useRealTimers()
})

const numbers = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)
const all = (who: readonly number[], manner: Manner): Record<number, Manner> =>
  Object.fromEntries(who.map((i) => [i, manner]))
const EVEN = numbers(64).filter((i) => i % 2 === 0)
const ODD = numbers(64).filter((i) => i % 2 === 1)

const most = (who: readonly number[], of: (i: number) => number): number => Math.max(...who.map(of))

describe('half of 64 instances that hang', () => {
  it('are all down within 30 s, and the others are read as often as ever', async () => {
    const world = await pool(numbers(64).map(() => 20))
    const since = world.become(all(EVEN, 'hung'))
    await world.roundsFor(60_000)
    expect(most(EVEN, (i) => world.downAfter(i, since))).toBeLessThan(30_000)
    expect(most(ODD, (i) => world.longestGap(i, since))).toBeLessThan(CONFIG.everyMs + 2_500)
    expect(new Set(ODD.map(world.stateOf))).toEqual(new Set(['ready']))
    expect(world.mostUnderWay).toBeLessThanOrEqual(CALLS)

    const later = world.become({})
    await world.roundsFor(60_000)
    expect(most(ODD, (i) => world.longestGap(i, later))).toBeLessThan(CONFIG.everyMs + 500)
    world.become(all(EVEN, 20))
    await world.roundsFor(60_000)
    expect(new Set(EVEN.map(world.stateOf)), 'they are seen to be back').toEqual(new Set(['ready']))
  })

  it('hold up none of those that are slow by nature', async () => {
    const slow = ODD.slice(0, 8)
    const world = await pool(numbers(64).map((i) => (slow.includes(i) ? 900 : 20)))
    const since = world.become(all(EVEN, 'hung'))
    await world.roundsFor(60_000)
    expect(most(slow, (i) => world.longestGap(i, since))).toBeLessThan(CONFIG.everyMs + 5_000)
    expect(new Set(ODD.map(world.stateOf))).toEqual(new Set(['ready']))
  })

  it('hold up no verdict on one that fails at once, nor, once down, on another that hangs', async () => {
    const world = await pool(numbers(64).map(() => 20))
    const since = world.become({ ...all(EVEN, 'hung'), 1: '502' })
    await world.roundsFor(60_000)
    expect(world.downAfter(1, since)).toBeLessThan(CONFIG.downAfter * CONFIG.everyMs)
    const later = world.become({ 3: 'hung' })
    await world.roundsFor(60_000)
    expect(world.downAfter(3, later)).toBeLessThan(CONFIG.downAfter * CONFIG.everyMs + 6_000)
  })

  it('behind a tunnel that swallows everything keep their health, and it is known at once (L14)', async () => {
    const site = (i: number) => (i % 2 === 0 ? 'far' : 'near')
    const world = await pool(
      numbers(64).map(() => 20),
      CONFIG,
      site,
    )
    const since = world.become(all(EVEN, 'swallowed'))
    await world.roundsFor(10_000)
    expect(world.fitness.paths.of('far').state).toBe('down')
    expect(world.fitness.paths.of('far').since - since).toBeLessThan(8_000)
    await world.roundsFor(60_000)
    expect(most(ODD, (i) => world.longestGap(i, since))).toBeLessThan(CONFIG.everyMs + 2_500)
    expect(new Set(numbers(64).map(world.stateOf))).toEqual(new Set(['ready']))
  })
})

describe('half of 64 engines that freeze (L07)', () => {
  it('are asked side by side, and hold up none of the readings', async () => {
    const world = await pool(numbers(64).map(() => 20))
    const since = world.become(all(EVEN, 'frozen'))
    await world.roundsFor(60_000)
    expect(Math.min(...EVEN.map((i) => world.downAfter(i, since)))).toBeLessThan(10_000)
    expect(most(EVEN, (i) => world.downAfter(i, since))).toBeLessThan(45_000)
    expect(most(ODD, (i) => world.longestGap(i, since))).toBeLessThan(CONFIG.everyMs + 2_500)
    expect(world.mostUnderWay).toBeLessThanOrEqual(CALLS)
  })

  it('do not keep one from being found out while others hang', async () => {
    const world = await pool(numbers(64).map(() => 20))
    const since = world.become({ ...all(EVEN, 'hung'), 1: 'frozen' })
    await world.roundsFor(60_000)
    expect(world.downAfter(1, since)).toBeLessThan(15_000)
  })
})

describe('a fleet', () => {
  it('behind a way that has become slow is not taken for cut off (L14)', async () => {
    const world = await pool(
      numbers(8).map(() => 20),
      CONFIG,
      () => 'far',
    )
    world.become(all(numbers(8), 900))
    await world.roundsFor(30_000)
    expect(world.fitness.paths.of('far')).toMatchObject({ state: 'up', since: 0 })
  })

  it('that has become slow as a whole, though not too slow, stays in service', async () => {
    const world = await pool(numbers(64).map(() => 20))
    world.become(all(numbers(64), CONFIG.timeoutMs - 100))
    await world.roundsFor(180_000)
    expect(new Set(numbers(64).map(world.stateOf))).toEqual(new Set(['ready']))
    expect(numbers(64).map((i) => world.downAfter(i, 0))).toEqual(numbers(64).map(() => Infinity))
  })

  it('in which one hangs finds it down after three whole deadlines', async () => {
    const world = await pool(numbers(8).map(() => 20))
    const since = world.become({ 0: 'hung' })
    await world.roundsFor(30_000)
    const { downAfter, everyMs, timeoutMs } = CONFIG
    const rounds = (downAfter - 1) * everyMs
    expect(world.downAfter(0, since)).toBeGreaterThanOrEqual(rounds + timeoutMs)
    expect(world.downAfter(0, since)).toBeLessThan(rounds + timeoutMs + everyMs)
  })

  it('of any size, of which any part hangs, finds these out in time and reads the others on time', async () => {
    const fleet = fc.record({
      manners: fc.array(fc.record({ ms: fc.integer({ min: 1, max: 60 }), hangs: fc.boolean() }), {
        minLength: 1,
        maxLength: 64,
      }),
      downAfter: fc.integer({ min: 1, max: 4 }),
    })
    await fc.assert(
      fc.asyncProperty(fleet, async ({ manners, downAfter }) => {
        const config = { ...CONFIG, downAfter }
        const world = await pool(
          manners.map(({ ms }) => ms),
          config,
        )
        const hung = numbers(manners.length).filter((i) => manners[i]!.hangs)
        const well = numbers(manners.length).filter((i) => !manners[i]!.hangs)
        const since = world.become(all(hung, 'hung'))
        await world.roundsFor(100_000)
        // Each is looked at `downAfter` times, four at once: shortly, but for the last time.
        const work = (hung.length / 4) * (config.timeoutMs + (downAfter - 1) * 500)
        const bound = (downAfter + 1) * config.everyMs + config.timeoutMs + work
        for (const i of hung) expect(world.downAfter(i, since)).toBeLessThan(bound)
        for (const i of well) {
          expect(world.longestGap(i, since)).toBeLessThan(config.everyMs + 5_000)
          expect(world.stateOf(i)).toBe('ready')
        }
        expect(world.mostUnderWay).toBeLessThanOrEqual(CALLS)
      }),
      { numRuns: 25 },
    )
  })
})
