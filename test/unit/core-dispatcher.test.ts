import { describe, expect, it } from 'vitest'
import type { InstanceConfig, PolicyName } from '../../durable-objects/fleet/snapshot.ts'
import type { Demand, ServiceClass, Work } from '../../durable-objects/pool/contract.ts'
import type { GrantedSeat, Outcome, Place } from '../../durable-objects/pool/dispatcher.ts'
import type { Vitals } from '../../durable-objects/pool/vitals.ts'
import { HASH_BYTES, tokensOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import { Books } from './core-books.ts'
import { demand, instance, settled } from './core-builders.ts'

const QUEUE = { max: 8, waitMs: 10_000 }

/** Books over instances of one slot each. */
function booksOf(
  ids: readonly string[],
  { policy = 'least_inflight', vitals = {}, named = {}, queue = QUEUE }: Partial<Setting> = {},
) {
  const books = new Books(vitals)
  const of = (id: string): InstanceConfig => instance({ instance: id, slots: 1, ...named })
  const configure = (now: readonly string[]): void =>
    books.configure(now.map(of), policy, { queue })
  configure(ids)
  return { books, configure }
}
interface Setting {
  readonly policy: PolicyName
  readonly vitals: Partial<Vitals>
  readonly named: Partial<InstanceConfig>
  readonly queue: { readonly max: number; readonly waitMs: number }
}

const work = (named: Partial<Work> = {}): Work => ({
  tenant: 'acme',
  class: 'standard',
  session: 'acme',
  address: '',
  place: null,
  promptTokens: 100,
  outputTokens: null,
  prefix: new Uint8Array(),
  ...named,
})

function granted(books: Books, named: Partial<Demand> = {}): GrantedSeat {
  const decision = books.acquire(demand(named))
  if (decision.kind !== 'granted') throw new Error(decision.kind)
  return decision
}

const idOf = ({ seat }: GrantedSeat): string => seat.config.instance

/** One who waits, and what he is told in the end. */
interface Waiter {
  readonly place: Place
  readonly ahead: number
  told: Outcome | null
}

function waiting(books: Books, named: Partial<Work> = {}, asked: Partial<Demand> = {}): Waiter {
  const decision = books.acquire(demand({ mayQueue: true, work: work(named), ...asked }))
  if (decision.kind !== 'queued') throw new Error(decision.kind)
  const { place, ahead } = decision
  const waiter: Waiter = { place, ahead, told: null }
  void place.outcome.then((outcome) => (waiter.told = outcome))
  return waiter
}

async function toldTo(...waiters: readonly Waiter[]): Promise<(string | null)[]> {
  await settled()
  return waiters.map(({ told }) => told && told.kind)
}

/** Hashes of a prompt of so many blocks; the same name, the same prompt. */
function prefixOf(name: number, blocks = 8): Uint8Array {
  return new Uint8Array(blocks * HASH_BYTES).map((_, i) => (name * 31 + i * 7 + 1) % 251)
}

describe('a request that finds every slot taken', () => {
  it('waits where it may, and else is told at once when to come back', () => {
    const { books } = booksOf(['a'])
    granted(books)
    const refused = books.acquire(demand())
    expect(refused).toMatchObject({ kind: 'busy' })
    expect(waiting(books).ahead).toBe(0)
    expect(waiting(books).ahead).toBe(1)
    expect(books.dispatcher.tally.queue).toMatchObject({ joined: 2, full: 0 })
  })

  it('gets the slot that comes free, before anybody who comes later', async () => {
    const { books } = booksOf(['a'])
    const { lease } = granted(books)
    const first = waiting(books)
    const second = waiting(books)
    books.release(lease, { ending: 'done' })
    expect(books.acquire(demand()).kind, 'the slot is taken already').toBe('busy')
    expect(await toldTo(first, second)).toEqual(['granted', null])
    expect(books.size).toBe(1)
  })

  it('is served in the order of the classes, whoever came first', async () => {
    const { books } = booksOf(['a'])
    let { lease } = granted(books)
    const classes: ServiceClass[] = ['batch', 'standard', 'interactive']
    const waiters = classes.map((name) => waiting(books, { class: name }))
    const served: (string | undefined)[] = []
    for (const _ of classes) {
      books.release(lease, { ending: 'done' })
      await settled()
      const at = waiters.findIndex(({ told }, i) => told && !served.includes(classes[i]))
      const { told } = waiters[at]!
      served.push(classes[at])
      if (told?.kind === 'granted') lease = told.lease
    }
    expect(served).toEqual(['interactive', 'standard', 'batch'])
  })

  it('is counted as in flight from the moment its turn comes, fetched or not (L06)', () => {
    const { books } = booksOf(['a'])
    const { lease, seat } = granted(books)
    waiting(books)
    books.release(lease, { ending: 'done' })
    expect(books.inFlight(seat)).toBe(1)
    expect(books.granted).toBe(2)
  })

  it('is told to come back in 1 to 60 whole seconds, however slow the pool has been', () => {
    for (const tokensPerSecond of [null, 0.01, 1, 1e6]) {
      const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
      if (tokensPerSecond !== null) {
        books.release(granted(books).lease, {
          ending: 'done',
          promptTokens: 50,
          completionTokens: 50,
          durationMs: (100 / tokensPerSecond) * 1_000,
        })
      }
      granted(books)
      waiting(books)
      waiting(books)
      const refused = books.acquire(demand({ mayQueue: true, work: work() }))
      if (refused.kind !== 'busy') throw new Error(refused.kind)
      expect(Number.isInteger(refused.retryAfterS)).toBe(true)
      expect(refused.retryAfterS).toBeGreaterThanOrEqual(1)
      expect(refused.retryAfterS).toBeLessThanOrEqual(60)
      expect(books.dispatcher.tally.queue).toMatchObject({ joined: 2, full: 1 })
    }
  })

  it('is told to come back later, the more there is to be done before it', () => {
    const { books } = booksOf(['a'])
    const settlement = { promptTokens: 50, completionTokens: 50, durationMs: 1_000 } as const
    books.release(granted(books).lease, { ending: 'done', ...settlement })
    granted(books)
    const seconds = [0, 1, 2].map(() => {
      const refused = books.acquire(demand())
      waiting(books, { promptTokens: 1_000 })
      return refused.kind === 'busy' ? refused.retryAfterS : 0
    })
    expect(seconds[1]).toBeGreaterThan(seconds[0]!)
    expect(seconds[2]).toBeGreaterThan(seconds[1]!)
  })

  it('never waits in a pool without a queue', () => {
    const { books } = booksOf(['a'], { queue: { max: 0, waitMs: 10_000 } })
    granted(books)
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('busy')
  })

  it('waits by the defaults where the configuration or the Worker is of the release before', async () => {
    const { books } = booksOf(['a'])
    books.configure([instance({ slots: 1 })])
    const { lease } = granted(books)
    const decision = books.acquire(demand({ mayQueue: true }))
    expect(decision.kind).toBe('queued')
    books.release(lease, { ending: 'done' })
    if (decision.kind !== 'queued') throw new Error(decision.kind)
    expect((await decision.place.outcome).kind).toBe('granted')
  })
})

describe('one who leaves the queue', () => {
  it('frees the place at once, and gets no slot that another could have', async () => {
    const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
    const { lease } = granted(books)
    const leaves = waiting(books)
    const stays = waiting(books)
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('busy')
    leaves.place.leave()
    const third = waiting(books)
    books.release(lease, { ending: 'done' })
    expect(await toldTo(leaves, stays, third)).toEqual(['busy', 'granted', null])
  })

  it('after his turn has come changes nothing: the slot is his to give back', async () => {
    const { books } = booksOf(['a'])
    const { lease } = granted(books)
    const waiter = waiting(books)
    books.release(lease, { ending: 'done' })
    waiter.place.leave()
    waiter.place.leave()
    expect(await toldTo(waiter)).toEqual(['granted'])
    expect(books.size).toBe(1)
  })
})

describe('the queue', () => {
  it('is not joined where nobody is ready: a fallback may do better', async () => {
    const { books } = booksOf(['a'])
    books.down.add('a')
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('none-ready')
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('is told at once when everybody has gone down', async () => {
    const { books } = booksOf(['a', 'b'])
    granted(books)
    granted(books)
    const waiters = [waiting(books), waiting(books), waiting(books, { class: 'batch' })]
    books.down.add('a')
    books.dispatcher.serveQueue()
    expect(await toldTo(...waiters), 'one is left').toEqual([null, null, null])
    books.down.add('b')
    books.dispatcher.serveQueue()
    expect(await toldTo(...waiters)).toEqual(['none-ready', 'none-ready', 'none-ready'])
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('has one of a lower class give up its place, and tells it so at once', async () => {
    const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
    granted(books)
    const batch = waiting(books, { class: 'batch' })
    const first = waiting(books, { class: 'interactive' })
    const second = waiting(books, { class: 'interactive' })
    expect(await toldTo(batch, first, second)).toEqual(['busy', null, null])
    expect(books.dispatcher.tally.queue).toEqual({ joined: 3, full: 0, shed: 1, expired: 0 })
  })

  it('is served by an instance that the fleet gets, and by more slots', async () => {
    const { books, configure } = booksOf(['a'])
    granted(books)
    const [first, second, third] = [waiting(books), waiting(books), waiting(books)] as const
    configure(['a', 'b'])
    expect(await toldTo(first, second, third)).toEqual(['granted', null, null])
    const slots = { a: 2, b: 2 }
    books.configure(Object.entries(slots).map(([id, n]) => instance({ instance: id, slots: n })))
    expect(await toldTo(first, second, third)).toEqual(['granted', 'granted', 'granted'])
  })

  it('lets nobody wait longer than the pool says, and says busy then', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books)
    books.clock.now += QUEUE.waitMs - 1
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual([null])
    books.clock.now += 1
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['busy'])
    expect(books.dispatcher.tally.queue.expired).toBe(1)
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('lets nobody wait longer than the request itself may live', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books, {}, { remainingMs: 500 })
    books.clock.now += 500
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['busy'])
  })

  it('tells one whose wait is over although another has joined since', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const over = waiting(books, {}, { remainingMs: 500 })
    const late = waiting(books, {}, { remainingMs: 0 })
    books.clock.now += 600
    const other = waiting(books)
    books.dispatcher.serveQueue()
    expect(await toldTo(over, late, other)).toEqual(['busy', 'busy', null])
    expect(books.dispatcher.tally.queue.expired).toBe(2)
  })

  it('is not held up by one at its head who has to wait for a longer context', async () => {
    const maxModelLen: Vitals['maxModelLen'] = ({ config }) =>
      config.instance === 'a' ? 1_000 : 10_000
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen } })
    const onA = granted(books, { avoid: ['b'] })
    granted(books, { avoid: ['a'] })
    const long = waiting(books, { promptTokens: 5_000 })
    const short = waiting(books, { promptTokens: 10 })
    books.release(onA.lease, { ending: 'done' })
    expect(await toldTo(long, short)).toEqual([null, 'granted'])
  })

  it('gives no slot to one whose instance failed it, and goes on to the next', async () => {
    const { books } = booksOf(['a', 'b'])
    const onA = granted(books, { avoid: ['b'] })
    granted(books, { avoid: ['a'] })
    const notA = waiting(books, {}, { avoid: ['a'] })
    const anyone = waiting(books)
    books.release(onA.lease, { ending: 'done' })
    expect(await toldTo(notA, anyone)).toEqual([null, 'granted'])
  })

  it('lets one go whose last other instance goes down: nobody is left to try it', async () => {
    const { books } = booksOf(['a', 'b'])
    granted(books)
    granted(books)
    const notA = waiting(books, {}, { avoid: ['a'] })
    books.down.add('b')
    books.dispatcher.serveQueue()
    expect(await toldTo(notA)).toEqual(['all-avoided'])
  })
})

describe('a drained instance', () => {
  it('gets nothing new, keeps what runs, and is used again when it is undrained', () => {
    const { books } = booksOf(['a', 'b'], { named: { slots: 4 } })
    const running = granted(books, { avoid: ['b'] })
    books.ledger.drain(new Set(['a']))
    expect([0, 1, 2, 3].map(() => idOf(granted(books)))).toEqual(['b', 'b', 'b', 'b'])
    expect(books.acquire(demand()).kind).toBe('busy')
    expect(books.inFlight(running.seat), 'what runs is not cut').toBe(1)
    books.release(running.lease, { ending: 'done' })
    expect(books.inFlight(running.seat)).toBe(0)
    books.ledger.drain(new Set())
    expect(idOf(granted(books))).toBe('a')
  })

  it('stays drained through a change of the fleet', () => {
    const { books, configure } = booksOf(['a', 'b'])
    books.ledger.drain(new Set(['a']))
    configure(['a', 'b'])
    expect(idOf(granted(books))).toBe('b')
    configure(['b'])
    configure(['a', 'b'])
    expect(books.acquire(demand()).kind, 'nor does leaving and coming back').toBe('busy')
  })

  it('that was the only one has nobody wait for it', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books)
    books.ledger.drain(new Set(['a']))
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['none-ready'])
  })
})

describe('a dismissal', () => {
  it('is told to every request of that instance, and to nobody else', async () => {
    const { books } = booksOf(['a', 'b'], { named: { slots: 2 } })
    const told: string[] = []
    const held = [granted(books), granted(books), granted(books), granted(books)]
    for (const { lease, seat } of held)
      void books.ledger.dismissal(lease).then(() => told.push(seat.config.instance))
    await settled()
    expect(told).toEqual([])
    books.ledger.dismiss(held.find((one) => idOf(one) === 'a')!.seat)
    await settled()
    expect(told).toEqual(['a', 'a'])
    expect(books.size, 'their slots are theirs to give back').toBe(4)
  })

  it('is told at once to one who asks only afterwards', async () => {
    const { books } = booksOf(['a'])
    const { lease, seat } = granted(books)
    books.ledger.dismiss(seat)
    await expect(books.ledger.dismissal(lease)).resolves.toBeUndefined()
  })

  it('is nothing to the requests that come after it', async () => {
    const { books } = booksOf(['a'], { named: { slots: 2 } })
    const { seat } = granted(books)
    books.ledger.dismiss(seat)
    let told = false
    void books.ledger.dismissal(granted(books).lease).then(() => (told = true))
    await settled()
    expect(told).toBe(false)
  })
})

describe('affinity', () => {
  const warm = (): { books: Books; configure: (ids: readonly string[]) => void } =>
    booksOf(['a', 'b', 'c'], { policy: 'prefix', named: { slots: 8 } })

  it('brings a prompt back to where its beginning was sent, and says how much is expected', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 700, prefix: prefixOf(1, 8) }) }
    const first = granted(books, prompt)
    expect(first).toMatchObject({ reason: 'prefix', expectedHitTokens: 0 })
    books.release(first.lease, { ending: 'done' })
    for (let i = 2; i < 5; i++) {
      const other = granted(books, { work: work({ prefix: prefixOf(i, 8) }) })
      books.release(other.lease, { ending: 'done' })
    }

    const longer = new Uint8Array([...prefixOf(1, 8), ...prefixOf(9, 2)])
    const next = granted(books, { work: work({ promptTokens: 900, prefix: longer }) })
    expect(idOf(next)).toBe(idOf(first))
    // And half of the next block, and an answer, since nobody else has had this conversation.
    expect(next.expectedHitTokens).toBe(tokensThrough(8) + tokensOf(8) / 2 + 40)
  })

  it('expects no more than the prompt is taken for', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 100, prefix: prefixOf(1, 8) }) }
    books.release(granted(books, prompt).lease, { ending: 'done' })
    expect(granted(books, prompt).expectedHitTokens).toBe(100)
  })

  it('expects nothing of a prompt too short for a block', () => {
    const { books } = warm()
    for (let i = 0; i < 3; i++) expect(granted(books, { work: work() }).expectedHitTokens).toBe(0)
    expect(books.dispatcher.chooser.affinity.size).toBe(0)
  })

  it('compares what it expected with what the engine found (L19)', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    const counts = { promptTokens: 600, completionTokens: 5, counted: 'reported' } as const
    books.release(granted(books, prompt).lease, { ending: 'done', ...counts, cachedTokens: 0 })
    books.release(granted(books, prompt).lease, { ending: 'done', ...counts, cachedTokens: 480 })
    expect(books.dispatcher.tally.hits.totals).toMatchObject({
      compared: 2,
      expected: 600, // no more than the prompt has
      actual: 480,
      prompt: 1_200,
    })
  })

  it('does not outlive the process: one that moved has an empty cache', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    const first = granted(books, prompt)
    books.release(first.lease, { ending: 'done' })
    const elsewhere = ['a', 'b', 'c'].map((id) =>
      instance({ instance: id, slots: 8, process: `elsewhere ${id}` }),
    )
    books.configure(elsewhere, 'prefix')
    expect(books.dispatcher.chooser.affinity.size).toBe(0)
    expect(granted(books, prompt).expectedHitTokens).toBe(0)
  })

  it('stays where only slots or weights change', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    books.release(granted(books, prompt).lease, { ending: 'done' })
    books.configure(
      ['a', 'b', 'c'].map((id) => instance({ instance: id, slots: 3, weight: 2 })),
      'prefix',
    )
    expect(granted(books, prompt).expectedHitTokens).toBeGreaterThanOrEqual(tokensThrough(8))
  })
})

describe('explain', () => {
  it.each(['round_robin', 'weighted', 'prefix', 'adaptive', 'least_inflight'] as const)(
    'chooses by %s what a request would get, and changes nothing',
    (policy) => {
      const { books } = booksOf(['a', 'b', 'c'], { policy, named: { slots: 4 } })
      for (let i = 0; i < 4; i++) granted(books, { work: work({ prefix: prefixOf(i) }) })
      const asked = demand({ work: work({ promptTokens: 600, prefix: prefixOf(2) }) })
      const before = [books.size, books.granted, books.dispatcher.chooser.affinity.size]
      const warm = books.dispatcher.chooser.affinity.dump()
      const first = books.dispatcher.explain(asked)
      const second = books.dispatcher.explain(asked)
      expect(second.verdicts).toEqual(first.verdicts)
      expect([books.size, books.granted, books.dispatcher.chooser.affinity.size]).toEqual(before)
      expect(books.dispatcher.chooser.affinity.dump(), 'nor who was used last').toEqual(warm)
      expect(second.expectedHitTokens).toBe(first.expectedHitTokens)
      if (first.choice.kind !== 'picked') throw new Error(first.choice.kind)
      const real = granted(books, asked)
      expect(idOf(real)).toBe(first.choice.id)
      expect(real.expectedHitTokens).toBe(first.expectedHitTokens)
    },
  )

  it('gives a verdict for each instance, with what left it out', () => {
    const { books } = booksOf(['a', 'b', 'c'])
    books.down.add('a')
    granted(books, { avoid: ['c'] })
    const { choice, verdicts } = books.dispatcher.explain(demand({ avoid: ['c'] }))
    expect(choice.kind).toBe('all-full')
    expect(verdicts.map(({ id, droppedBy }) => [id, droppedBy])).toEqual([
      ['a', 'ready'],
      ['b', 'free-slot'],
      ['c', 'untried'],
    ])
  })

  it('tells the very choice where the estimate is too long for everybody: one verdict each', () => {
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen: () => 1_000 } })
    const asked = demand({ work: work({ promptTokens: 5_000 }) })
    const { choice, verdicts } = books.dispatcher.explain(asked)
    expect(choice.kind).toBe('picked')
    expect(verdicts.map(({ id, droppedBy }) => [id, droppedBy])).toEqual([
      ['a', null],
      ['b', null],
    ])
  })
})

describe('the choice', () => {
  it('leaves out who is too short for the prompt and the answer asked for', () => {
    const maxModelLen: Vitals['maxModelLen'] = ({ config }) =>
      config.instance === 'a' ? 1_000 : 8_000
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen }, named: { slots: 4 } })
    const long = { work: work({ promptTokens: 600, outputTokens: 600 }) }
    expect([1, 2, 3].map(() => idOf(granted(books, long)))).toEqual(['b', 'b', 'b'])
    expect(idOf(granted(books, { work: work({ promptTokens: 600 }) }))).toBe('a')
  })

  it('sends a request too long for everybody all the same: vLLM says so in better words', () => {
    const { books } = booksOf(['a'], { vitals: { maxModelLen: () => 1_000 } })
    expect(granted(books, { work: work({ promptTokens: 50_000 }) }).kind).toBe('granted')
  })

  it('adds what was sent since the reading to what waits: bursts do not all go to one', () => {
    const gauges: Vitals['gauges'] = ({ config }) => ({
      running: 0,
      waiting: config.instance === 'a' ? 0 : 2,
      kvUse: 0,
    })
    const { books } = booksOf(['a', 'b'], {
      policy: 'gpu',
      vitals: { gauges },
      named: { slots: 32 },
    })
    const sent = Array.from({ length: 12 }, () => idOf(granted(books)))
    expect(sent.slice(0, 2), 'until a is level with b').toEqual(['a', 'a'])
    expect(sent.filter((id) => id === 'a')).toHaveLength(7)
  })

  it('knows what was sent no longer once a newer reading tells of it', () => {
    let readAt = 1
    const gauges: Vitals['gauges'] = () => ({ running: 0, waiting: 0, kvUse: 0 })
    const { books } = booksOf(['a', 'b'], {
      policy: 'gpu',
      vitals: { gauges, readAt: ({ config }) => (config.instance === 'a' ? readAt : 1) },
      named: { slots: 32 },
    })
    for (let i = 0; i < 8; i++) granted(books)
    readAt = 2
    expect([1, 2, 3, 4].map(() => idOf(granted(books)))).toEqual(['a', 'a', 'a', 'a'])
  })

  it('goes by the tokens ahead, not by the number of requests', () => {
    const { books } = booksOf(['a', 'b'], { policy: 'tokens', named: { slots: 8 } })
    const giant = granted(books, { work: work({ promptTokens: 30_000 }) })
    const short = { work: work({ promptTokens: 10, outputTokens: 10 }) }
    const others = Array.from({ length: 6 }, () => idOf(granted(books, short)))
    expect(new Set(others)).toEqual(new Set([idOf(giant) === 'a' ? 'b' : 'a']))
  })

  it.each([-5, Number.NaN, Infinity, 1e300])(
    'lets no number of a Worker of another release spoil the books: %d tokens',
    (tokens) => {
      const { books } = booksOf(['a', 'b'], { policy: 'adaptive', named: { slots: 4 } })
      const odd = { work: work({ promptTokens: tokens, outputTokens: tokens }) }
      const { lease, seat } = granted(books, odd)
      for (const ahead of [seat.backlog.promptTokensAhead, seat.backlog.outputTokensAhead]) {
        expect(ahead).toBeGreaterThanOrEqual(0)
        expect(Number.isFinite(ahead)).toBe(true)
      }
      books.release(lease, { ending: 'done' })
      expect(new Set([granted(books), granted(books)].map(idOf))).toEqual(new Set(['a', 'b']))
    },
  )

  it('tells health of every request that is sent, and once how each ended, with the pass it got', () => {
    const heard: unknown[] = []
    const { books } = booksOf(['a'], {
      named: { slots: 2 },
      vitals: {
        take: ({ config }) => heard.push(`sent ${config.instance}`) + 40,
        record: (_seat, outcome) => void heard.push(outcome),
      },
    })
    const first = granted(books)
    const second = granted(books)
    books.acquire(demand())
    books.release(second.lease, { ending: 'upstream-failed', way: 'fault', detail: '530' })
    books.release(second.lease, { ending: 'done' })
    books.release(first.lease, { ending: 'done' })
    expect(heard).toEqual([
      'sent a',
      'sent a',
      { ending: 'upstream-failed', pass: 42, way: 'fault', detail: '530' },
      { ending: 'done', pass: 41 },
    ])
  })

  it('takes an answer for as long as nine in ten were, where nobody says', () => {
    const { books } = booksOf(['a'])
    const unknown = books.dispatcher.tally.usualOutputTokens
    for (let i = 0; i < 20; i++) {
      books.release(granted(books).lease, {
        ending: 'done',
        promptTokens: 5,
        completionTokens: 2_000,
        counted: 'reported',
      })
    }
    const { usualOutputTokens } = books.dispatcher.tally
    expect(unknown).toBeGreaterThan(0)
    expect(usualOutputTokens / 2_000).toBeCloseTo(1, 1)
    for (const [ending, counted] of [
      ['truncated', 'reported'],
      ['done', 'estimate'],
    ] as const) {
      for (let i = 0; i < 40; i++) {
        const { lease } = granted(books)
        books.release(lease, { ending, counted, promptTokens: 5, completionTokens: 9_000 })
      }
    }
    const after = books.dispatcher.tally.usualOutputTokens
    expect(after, 'one that was cut off, or guessed at, says nothing').toBe(usualOutputTokens)
  })
})

it('gives a slot that time alone has opened to who waited for it, not to who comes just then', async () => {
  const books = new Books()
  books.configure(['a', 'b'].map((id) => instance({ instance: id, slots: 1 })))
  books.down.add('b')
  books.acquire(demand())
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.down.delete('b')
  expect(books.acquire(demand()).kind).toBe('busy')
  expect((await waiting.place.outcome).kind).toBe('granted')
})

it('sends back who waits where the pool serves another model by now: it would be asked for by its old name', async () => {
  const books = new Books()
  books.configure([instance({ slots: 1 })])
  books.acquire(demand())
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.configure([instance({ slots: 2, process: 'another' })], 'least_inflight', {
    version: 2,
    servedAs: 'Another-Model',
  })
  expect(await waiting.place.outcome).toEqual({ kind: 'stale', version: 2 })
})

it('lets who waits wait on while the only instance is merely suspected', async () => {
  let state: 'ready' | 'suspect' | 'down' = 'ready'
  const books = new Books({ state: () => state })
  books.configure([instance({ slots: 1 })])
  const { lease } = granted(books)
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  state = 'suspect'
  books.release(lease, { ending: 'done' })
  expect(books.dispatcher.queue.size).toBe(1)
  state = 'down'
  books.dispatcher.serveQueue()
  expect((await waiting.place.outcome).kind).toBe('none-ready')
})

it('tells health nothing of an ending that was our own doing', () => {
  const heard: unknown[] = []
  const books = new Books({ record: (_seat, { ending }) => void heard.push(ending) })
  books.configure([instance({ slots: 2 })])
  books.release(granted(books).lease, { ending: 'timed-out', blameless: true })
  books.release(granted(books).lease, { ending: 'timed-out', blameless: false })
  expect(heard).toEqual(['lost', 'timed-out'])
  expect(books.ended['timed-out'], 'and counts it as what it was').toBe(2)
})

it('ends the wait for a dismissal with the lease: nothing stays pending on a long-lived socket', async () => {
  const books = new Books()
  books.configure([instance()])
  const { lease } = granted(books)
  const over = books.ledger.dismissal(lease)
  books.release(lease, { ending: 'done' })
  await expect(over).resolves.toBeUndefined()
})

it('takes nobody back whose request runs on another process of that name', () => {
  const books = new Books()
  books.configure([instance({ slots: 1, base: 'http://new' })])
  const holding = { contract: 1, fleet: 1, request: 'r', instance: 'a', remainingMs: 1_000 }
  expect(books.reattach({ ...holding, base: 'http://old' })).toBeNull()
  expect(books.reattach(holding), 'a Worker of the release before does not say').not.toBeNull()
})

it('gives a slot back that was granted to a place nobody will ask about any more', async () => {
  const books = new Books()
  books.configure([instance({ slots: 1 })])
  const { lease } = granted(books)
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.release(lease, { ending: 'done' })
  waiting.place.giveBack()
  await settled()
  expect(books.size).toBe(0)
})
