import { describe, expect, it } from 'vitest'
import { Doubts } from '../../durable-objects/health/doubt.ts'
import { Paths } from '../../durable-objects/health/path.ts'

function made(instances = 2) {
  const clock = { now: 1_000 }
  const paths = new Paths(() => clock.now)
  paths.configure(new Map([['sh', instances]]))
  const fault = (instance: string, reason = '530') => paths.fault('sh', instance, reason)
  return { paths, clock, fault, state: () => paths.of('sh').state }
}

describe('the way to a site (L14)', () => {
  it('is down when nobody behind it gets through, and says why and since when', () => {
    const { paths, clock, fault, state } = made()
    fault('a')
    fault('a')
    expect(state(), 'b may be reached all the same').toBe('up')
    clock.now = 2_000
    fault('b', 'error 1033')
    expect(paths.of('sh')).toEqual({ state: 'down', reason: 'error 1033', since: 2_000 })
    clock.now = 3_000
    fault('a', '502')
    expect(paths.of('sh')).toEqual({ state: 'down', reason: '502', since: 2_000 })
    expect(paths.anyDown).toBe(true)
  })

  it('is not down for one fault of its only instance', () => {
    const { fault, state } = made(1)
    fault('a')
    expect(state()).toBe('up')
    fault('a')
    expect(state()).toBe('down')
  })

  it('is up again with the first answer', () => {
    const { paths, clock, fault, state } = made()
    fault('a')
    fault('b')
    clock.now = 5_000
    paths.ok('sh', 'b')
    expect(paths.of('sh')).toMatchObject({ state: 'up', since: 5_000 })
    fault('a')
    fault('a')
    expect(state(), 'faults from before count no more').toBe('up')
  })

  it('is down after five faults in a row, whoever met them', () => {
    const { fault, state } = made(8)
    for (let i = 0; i < 4; i++) fault('a')
    expect(state()).toBe('up')
    fault('b')
    expect(state()).toBe('down')
  })

  it('is not to blame for one instance that cannot be reached while others can', () => {
    const { paths, fault, state } = made()
    expect(fault('a'), 'it may be the way').toBe(false)
    expect(fault('a'), 'it still may').toBe(false)
    paths.ok('sh', 'b')
    expect(fault('a')).toBe(true)
    expect(state()).toBe('up')
    paths.ok('sh', 'a')
    paths.ok('sh', 'b')
    expect(fault('a'), 'it was reached meanwhile').toBe(false)
  })

  it('is open where there is none, and for a site nobody knows', () => {
    const { paths } = made()
    expect(paths.of(null).state).toBe('up')
    expect(paths.fault('elsewhere', 'a', '530')).toBe(false)
    expect(paths.of('elsewhere').state).toBe('up')
  })

  it('is forgotten with its site, and its instances are counted anew', () => {
    const { paths, fault, state } = made()
    fault('a')
    fault('b')
    paths.configure(new Map())
    expect(state()).toBe('up')
    paths.configure(new Map([['sh', 3]]))
    fault('a')
    paths.configure(new Map([['sh', 2]]))
    fault('b')
    expect(state(), 'a has left').toBe('up')
    expect([...paths.all()].map(([site]) => site)).toEqual(['sh'])
  })
})

describe('failures that the way may have caused as well as an instance', () => {
  function held(...instances: readonly string[]) {
    const clock = { now: 1_000 }
    const blamed: string[] = []
    const excused: string[] = []
    const doubts = new Doubts<string>({
      now: () => clock.now,
      blame: (failure) => blamed.push(failure),
      excuse: (failure) => excused.push(failure),
    })
    doubts.configure(new Map([['sh', 4]]), 30_000)
    for (const instance of instances) doubts.hold('sh', instance, instance)
    return { clock, doubts, blamed, excused }
  }

  it('wait until a look gets through after their moment, however long that takes', () => {
    const { clock, doubts, blamed, excused } = held('a')
    clock.now += 999
    doubts.answered('sh')
    clock.now += 29_000
    expect([blamed, excused], 'the look may have come before the tunnel broke').toEqual([[], []])
    doubts.answered('sh')
    expect([blamed, excused]).toEqual([['a'], []])
    doubts.answered('sh')
    expect(blamed, 'once').toEqual(['a'])
  })

  it.each([
    { instances: ['a', 'a', 'a'], count: 3, why: 'one instance lost all of its own' },
    { instances: ['a', 'b'], count: 2, why: 'two of four may be ill' },
    { instances: ['a', 'b', 'c', 'a'], count: 0, why: 'most of them at once: the tunnel blinked' },
  ])('blame $count for $instances, since $why', ({ instances, count }) => {
    const { clock, doubts, blamed, excused } = held(...instances)
    clock.now += 1_000
    doubts.answered('sh')
    expect([blamed.length, excused.length]).toEqual([count, instances.length - count])
  })

  it('are nobody’s once their site has left: no look will tell', () => {
    const { doubts, blamed, excused } = held('a', 'b')
    doubts.configure(new Map([['elsewhere', 1]]), 30_000)
    expect([blamed, excused]).toEqual([[], ['a', 'b']])
    expect(doubts.has('sh', 'a')).toBe(false)
    doubts.hold('sh', 'a', 'later')
    expect(excused, 'its last requests end after it has left').toEqual(['a', 'b', 'later'])
    expect(doubts.has('sh', 'a')).toBe(false)
  })

  it('wait on where their site stays', () => {
    const { clock, doubts, blamed, excused } = held('a')
    doubts.configure(new Map([['sh', 3]]), 30_000)
    expect(excused).toEqual([])
    clock.now += 1_000
    doubts.answered('sh')
    expect(blamed).toEqual(['a'])
  })

  it('are of one moment only where they come within a second', () => {
    const { clock, doubts, blamed } = held('a')
    for (const instance of ['b', 'c']) {
      clock.now += 1_000
      doubts.hold('sh', instance, instance)
    }
    clock.now += 500
    doubts.answered('sh')
    expect(blamed, 'that of c is too young').toEqual(['a', 'b'])
    clock.now += 500
    doubts.answered('sh')
    expect(blamed).toEqual(['a', 'b', 'c'])
  })

  it('blame the only instance of a site: nobody shares its fate', () => {
    const { clock, doubts, blamed } = held('a')
    doubts.configure(new Map([['sh', 1]]), 30_000)
    clock.now += 1_000
    doubts.answered('sh')
    expect(blamed).toEqual(['a'])
  })

  it('blame nobody once the way is known to be down', () => {
    const { clock, doubts, blamed, excused } = held('a', 'a')
    expect([doubts.has('sh', 'a'), doubts.has('sh', 'b')]).toEqual([true, false])
    doubts.excuse('sh')
    clock.now += 1_000
    doubts.answered('sh')
    expect([blamed, excused]).toEqual([[], ['a', 'a']])
    expect(doubts.has('sh', 'a')).toBe(false)
  })

  it.each([
    { ms: 30_000, why: 'nobody has got through for that long' },
    { ms: -86_400_000, why: 'the clock was put back' },
  ])('blame nobody when $why', ({ ms }) => {
    const { clock, doubts, blamed, excused } = held('a')
    clock.now += ms
    doubts.answered('sh')
    expect([blamed, excused]).toEqual([[], ['a']])
  })

  it('do not pile up', () => {
    const { doubts, excused } = held()
    for (let i = 0; i < 1_001; i++) doubts.hold('sh', 'a', String(i))
    expect(excused).toEqual(['1000'])
  })
})
