import { describe, expect, it } from 'vitest'
import type { ServiceClass } from '../../durable-objects/pool/contract.ts'
import { Queue } from '../../durable-objects/pool/queue.ts'

const join = (queue: Queue<string>, item: string, serviceClass: ServiceClass, deadline = 10_000) =>
  queue.join({ tenant: item.split(' ')[0]!, class: serviceClass, tokens: 1000, deadline, item })

const shedBy = (joined: ReturnType<typeof join>) =>
  joined.kind === 'in' ? (joined.shed?.item ?? null) : 'full'

/** A queue of so many places; each item's tenant is another unless said. */
function queueOf(max: number, items: Record<string, ServiceClass> = {}): Queue<string> {
  const queue = new Queue<string>({ max, waitMs: 10_000 })
  for (const [item, serviceClass] of Object.entries(items)) join(queue, item, serviceClass)
  return queue
}

/** How many of a class a queue takes in, each from another tenant. */
function takesIn(queue: Queue<string>, serviceClass: ServiceClass): number {
  let taken = 0
  while (taken < 100 && join(queue, `${serviceClass}${taken}`, serviceClass).kind === 'in') taken++
  return taken
}

describe('the queue is bounded', () => {
  it.each([
    { max: 64, batch: 32, standard: 56, interactive: 64 },
    { max: 8, batch: 4, standard: 7, interactive: 8 },
    { max: 1, batch: 1, standard: 1, interactive: 1 },
    { max: 0, batch: 0, standard: 0, interactive: 0 },
  ])(
    'takes $batch batch, $standard standard, $interactive interactive of $max',
    ({ max, ...most }) => {
      for (const serviceClass of ['batch', 'standard', 'interactive'] as const)
        expect(takesIn(queueOf(max), serviceClass)).toBe(most[serviceClass])
    },
  )

  it('keeps the last places for those above, whatever the classes below have filled together', () => {
    const queue = queueOf(8)
    expect([takesIn(queue, 'batch'), takesIn(queue, 'standard'), queue.sizeOf('batch')]).toEqual([
      4 + 0,
      7,
      0,
    ])
    expect(shedBy(join(queue, 'x', 'interactive'))).toBeNull()
  })

  it('puts out batch work before standard work for interactive work', () => {
    const queue = queueOf(4, { a: 'standard', b: 'batch', c: 'standard', d: 'interactive' })
    expect(shedBy(join(queue, 'e', 'interactive'))).toBe('b')
    expect(shedBy(join(queue, 'f', 'interactive'))).toBe('c')
    expect(shedBy(join(queue, 'g', 'interactive'))).toBe('a')
    expect(shedBy(join(queue, 'h', 'interactive'))).toBe('full')
  })

  it('puts nobody out for a class that is not above', () => {
    const queue = queueOf(2, { a: 'standard', b: 'interactive' })
    expect(shedBy(join(queue, 'c', 'batch'))).toBe('full')
    expect(shedBy(join(queue, 'd', 'standard'))).toBe('full')
  })

  it('puts out the newest of the tenant that has most', () => {
    const queue = queueOf(6, { 'loud 1': 'batch', 'loud 2': 'batch', quiet: 'batch' })
    for (const item of ['x', 'y', 'z']) join(queue, item, 'interactive')
    expect(shedBy(join(queue, 'v', 'interactive'))).toBe('loud 2')
    expect(shedBy(join(queue, 'w', 'interactive'))).toBe('quiet')
  })

  it('puts out the newest where two tenants have as many', () => {
    const queue = queueOf(4, { 'a 1': 'standard', 'b 1': 'standard' })
    join(queue, 'b 2', 'standard')
    join(queue, 'a 2', 'standard')
    expect(shedBy(join(queue, 'c 1', 'standard'))).toBe('a 2')
  })

  it('has room for a tenant although another has filled it', () => {
    const queue = queueOf(4, { 'loud 1': 'standard', 'loud 2': 'standard' })
    join(queue, 'loud 3', 'standard')
    join(queue, 'loud 4', 'standard')
    expect(shedBy(join(queue, 'loud 5', 'standard'))).toBe('full')
    expect(shedBy(join(queue, 'quiet 1', 'standard'))).toBe('loud 4')
    expect(shedBy(join(queue, 'quiet 2', 'standard'))).toBe('loud 3')
    expect(shedBy(join(queue, 'quiet 3', 'standard'))).toBe('full')
  })

  it('frees the place of one who leaves at once, and only once', () => {
    const queue = queueOf(1)
    const joined = join(queue, 'a', 'standard')
    expect(shedBy(join(queue, 'b', 'standard'))).toBe('full')
    if (joined.kind !== 'in') throw new Error('not in')
    expect([queue.leave(joined.entry), queue.leave(joined.entry)]).toEqual([true, false])
    expect(shedBy(join(queue, 'b', 'standard'))).toBeNull()
    expect([queue.size, queue.leave(joined.entry)]).toEqual([1, false])
  })

  it('takes nobody in while it is fuller than its new size, and puts nobody out for that', () => {
    const queue = queueOf(4, { a: 'standard', b: 'standard', c: 'standard' })
    queue.configure({ max: 2, waitMs: 10_000 })
    expect([queue.size, shedBy(join(queue, 'd', 'standard'))]).toEqual([3, 'full'])
    expect([shedBy(join(queue, 'e', 'interactive')), queue.size]).toEqual(['c', 3])
    queue.configure({ max: 0, waitMs: 10_000 })
    expect(shedBy(join(queue, 'f', 'interactive'))).toBe('full')
  })

  it('takes a class that only a newer release knows for a standard one', () => {
    const queue = queueOf(4)
    expect(join(queue, 'a', 'urgent' as ServiceClass).kind).toBe('in')
    expect(queue.sizeOf('standard')).toBe(1)
  })
})

describe('the wait is bounded', () => {
  it('is over at the deadline, and not before', () => {
    const queue = queueOf(4)
    join(queue, 'a', 'standard', 500)
    join(queue, 'b', 'standard', 400)
    expect(queue.nextDeadline).toBe(400)
    expect(queue.expire(399)).toEqual([])
    expect(queue.expire(400)).toEqual(['b'])
    expect(queue.expire(500)).toEqual(['a'])
    expect([queue.size, queue.nextDeadline]).toEqual([0, null])
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e300])(
    'is the queue’s own where the deadline is %s',
    (deadline) => {
      const queue = queueOf(4)
      join(queue, 'a', 'standard', deadline)
      expect(queue.expire(1000)).toEqual([])
      expect(queue.nextDeadline).toBe(11_000)
      expect(queue.expire(11_000)).toEqual(['a'])
    },
  )

  it('is asked about at once where a deadline is no number', () => {
    const queue = queueOf(4)
    join(queue, 'a', 'standard', 700)
    join(queue, 'b', 'standard', Number.NaN)
    expect(queue.nextDeadline).toBe(0)
  })

  it('gets no longer when the clock is put back', () => {
    const queue = queueOf(4)
    join(queue, 'a', 'standard', 3_600_000 + 10_000)
    expect(queue.expire(5)).toEqual([])
    expect(queue.expire(10_005)).toEqual(['a'])
  })

  it('gets shorter for those who wait when the configuration says so', () => {
    const queue = queueOf(4, { a: 'standard' })
    queue.configure({ max: 4, waitMs: 100 })
    expect(queue.expire(0)).toEqual([])
    expect(queue.expire(100)).toEqual(['a'])
  })
})
