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

describe('failures of one moment', () => {
  function held(...instances: readonly string[]) {
    const clock = { now: 1_000 }
    const doubts = new Doubts<string>(() => clock.now)
    for (const instance of instances) doubts.hold('sh', instance, instance)
    return { clock, doubts }
  }
  const of4 = () => 4

  it('wait for it to be over', () => {
    const { clock, doubts } = held('a')
    clock.now += 999
    expect(doubts.settle(of4)).toEqual({ blamed: [], excused: [] })
    clock.now += 1
    expect(doubts.settle(of4)).toEqual({ blamed: ['a'], excused: [] })
    expect(doubts.settle(of4)).toEqual({ blamed: [], excused: [] })
  })

  it.each([
    { instances: ['a', 'a', 'a'], blamed: 3, why: 'one instance lost all of its own' },
    { instances: ['a', 'b'], blamed: 2, why: 'two of four may be ill' },
    { instances: ['a', 'b', 'c', 'a'], blamed: 0, why: 'most of them at once: the tunnel blinked' },
  ])('blame $blamed for $instances, since $why', ({ instances, blamed }) => {
    const { clock, doubts } = held(...instances)
    clock.now += 1_000
    expect(doubts.settle(of4).blamed).toHaveLength(blamed)
  })

  it('blame the only instance of a site: nobody shares its fate', () => {
    const { clock, doubts } = held('a')
    clock.now += 1_000
    expect(doubts.settle(() => 1).blamed).toEqual(['a'])
  })

  it('blame nobody once the way is known to be down', () => {
    const { clock, doubts } = held('a', 'a')
    expect(doubts.excuse('sh')).toEqual(['a', 'a'])
    clock.now += 1_000
    expect(doubts.settle(of4).blamed).toEqual([])
  })

  it('do not wait for ever when the clock is put back, nor pile up', () => {
    const { clock, doubts } = held('a')
    clock.now -= 86_400_000
    expect(doubts.settle(of4).blamed).toEqual(['a'])
    for (let i = 0; i < 1_000; i++) doubts.hold('sh', 'a', 'a')
    expect(doubts.settle(of4).blamed).toHaveLength(1_000)
  })
})
