import { describe, expect, it } from 'vitest'
import type { StandbyTarget } from '../../durable-objects/fleet/snapshot.ts'
import type { Granted, NotGranted, Settlement } from '../../durable-objects/pool/contract.ts'
import { Standby } from '../../worker/forward/standby.ts'
import { target } from './core-builders.ts'

const SETTLEMENT: Settlement = {
  ending: 'done',
  ttftMs: 1,
  durationMs: 2,
  promptTokens: null,
  completionTokens: null,
}

const standbyTarget = (named: Partial<StandbyTarget> = {}): StandbyTarget => ({
  ...target(named),
  slots: 80,
  weight: 1,
  lastResort: false,
  ...named,
})

/** The same numbers in [0, 1) in every run (a linear congruential generator). */
function lottery(): () => number {
  let state = 7
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

/** An isolate whose pool's object is out of reach. */
function standbyFor(...instances: readonly Partial<StandbyTarget>[]) {
  const clock = { now: 1_000_000 }
  const standby = new Standby({ now: () => clock.now, random: lottery() })
  const targets = instances.map(standbyTarget)
  const acquire = (avoid: readonly string[] = [], remainingMs = 60_000) =>
    standby.acquire(targets, { avoid, remainingMs })
  const take = (...avoid: readonly string[]): Granted => granted(acquire(avoid))
  const end = (slot: Granted, ending: Settlement['ending'] = 'done', blameless = false) =>
    slot.lease.release({ ...SETTLEMENT, ending, blameless })
  return { clock, acquire, take, end }
}

function granted(answer: Granted | NotGranted): Granted {
  if (answer.kind === 'granted') return answer
  throw new Error(`not granted: ${answer.kind}`)
}

const instanceOf = ({ target: { instance } }: Granted): string => instance

/** How many of so many grants went to each. */
function spread(take: () => Granted, count: number): Record<string, number> {
  const counts: Record<string, number> = {}
  for (let i = 0; i < count; i++) {
    const instance = instanceOf(take())
    counts[instance] = (counts[instance] ?? 0) + 1
  }
  return counts
}

describe('an isolate that chooses by itself', () => {
  it('says so, and gives what is needed to call the instance, and no more', () => {
    const { take } = standbyFor({ instance: 'a', base: 'https://site.example/i/a' })
    expect(take()).toMatchObject({ reason: 'static', target: target({ instance: 'a' }) })
    expect(Object.keys(take().target).toSorted()).toEqual(['base', 'instance', 'secrets', 'site'])
  })

  it('takes the one of two to which it has sent less', () => {
    const { take } = standbyFor({ instance: 'a' }, { instance: 'b' })
    expect(spread(take, 10)).toEqual({ a: 5, b: 5 })
  })

  it('gives an instance of three times the weight three times as much', () => {
    const { take } = standbyFor({ instance: 'a', weight: 3 }, { instance: 'b' })
    expect(spread(take, 8)).toEqual({ a: 6, b: 2 })
  })

  it('minds weights where nothing runs yet, too', () => {
    const { take, end } = standbyFor({ instance: 'a' }, { instance: 'b', weight: 2 })
    const once = () => {
      const slot = take()
      void end(slot)
      return slot
    }
    expect(spread(once, 10)).toEqual({ b: 10 })
  })

  it('looks at two of many only, so that isolates do not all choose the same', () => {
    const ids = ['a', 'b', 'c', 'd']
    const { take, end } = standbyFor(...ids.map((instance) => ({ instance })))
    const chosen = Array.from({ length: 100 }, () => {
      const slot = take()
      void end(slot)
      return instanceOf(slot)
    })
    expect(new Set(chosen).size).toBe(4)
  })

  it.each([
    { slots: 80, cap: 10 },
    { slots: 15, cap: 1 },
    { slots: 2, cap: 1 },
  ])('uses $cap of $slots slots, since it knows of no other isolate', ({ slots, cap }) => {
    const { take, acquire, end } = standbyFor({ instance: 'a', slots })
    const taken = Array.from({ length: cap }, () => take())
    expect(acquire()).toEqual({ kind: 'busy', retryAfterS: 1 })
    void end(taken[0]!)
    expect(instanceOf(take())).toBe('a')
  })

  it('counts a slot that is given back twice once', () => {
    const { take, acquire, end } = standbyFor({ instance: 'a', slots: 16 })
    const first = take()
    take()
    void end(first)
    void end(first)
    take()
    expect(acquire().kind).toBe('busy')
  })

  it('forgets a request that never said that it was over, a while after its time', () => {
    const { clock, take, acquire } = standbyFor({ instance: 'a', slots: 8 })
    take()
    clock.now += 60_000
    expect(acquire().kind, 'it may be about to say so').toBe('busy')
    clock.now += 10_000
    expect(acquire().kind).toBe('granted')
  })

  it('avoids the instances that have failed this request', () => {
    const { take, acquire } = standbyFor({ instance: 'a' }, { instance: 'b' })
    expect(instanceOf(take('a'))).toBe('b')
    expect(acquire(['a', 'b'])).toEqual({ kind: 'all-avoided' })
  })

  it('takes a last resort only where no other is left', () => {
    const { take, acquire, end } = standbyFor(
      { instance: 'a', slots: 8 },
      { instance: 'z', lastResort: true },
    )
    const slot = take()
    expect(instanceOf(slot)).toBe('a')
    expect(acquire().kind, 'busy is not gone').toBe('busy')
    expect(instanceOf(take('a'))).toBe('z')
    void end(slot, 'upstream-failed')
    expect(instanceOf(take())).toBe('z')
  })

  it.each(['upstream-failed', 'truncated', 'timed-out'] as const)(
    'leaves one alone for some seconds that has just failed: %s',
    (ending) => {
      const { clock, take, end } = standbyFor({ instance: 'a' }, { instance: 'b' })
      void end(take('b'), ending)
      expect(spread(take, 6)).toEqual({ b: 6 })
      clock.now += 5_000
      expect(spread(take, 6)).toEqual({ a: 6 })
    },
  )

  it.each([
    { ending: 'client-left', blameless: false },
    { ending: 'done', blameless: false },
    { ending: 'timed-out', blameless: true },
  ] as const)('holds $ending, blameless $blameless, against nobody', ({ ending, blameless }) => {
    const { take, end } = standbyFor({ instance: 'a' }, { instance: 'b' })
    void end(take('b'), ending, blameless)
    expect(spread(take, 6)).toEqual({ a: 3, b: 3 })
  })

  it('goes on with one that has just failed where there is no other', () => {
    const { take, end } = standbyFor({ instance: 'a' })
    void end(take(), 'upstream-failed')
    expect(instanceOf(take())).toBe('a')
  })
})
