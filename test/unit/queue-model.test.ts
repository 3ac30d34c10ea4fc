import { deepEqual, equal, ok } from 'node:assert/strict'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ServiceClass } from '../../durable-objects/pool/contract.ts'
import type { Place } from '../../durable-objects/pool/fair-share.ts'
import { Queue } from '../../durable-objects/pool/queue.ts'

const CLASSES = ['interactive', 'standard', 'batch'] as const

interface Request {
  readonly id: number
  readonly tenant: string
  readonly class: ServiceClass
  readonly cost: number
  /** One of three kinds: an offer may be for some of them only. */
  readonly kind: number
}

/** Start-time fair queueing by its definition: every request carries its start, and all are searched. */
class Model {
  waiting: { request: Request; start: number }[] = []
  readonly #time = { interactive: 0, standard: 0, batch: 0 }
  readonly #finish = new Map<string, number>()

  join(request: Request): void {
    const start = Math.max(this.#time[request.class], this.#finish.get(key(request)) ?? 0)
    this.#finish.set(key(request), start + request.cost)
    this.waiting.push({ request, start })
  }

  order(): Request[] {
    const rank = ({ request }: { request: Request }) => CLASSES.indexOf(request.class)
    return this.waiting
      .toSorted((a, b) => rank(a) - rank(b) || a.start - b.start || a.request.id - b.request.id)
      .map(({ request }) => request)
  }

  serve(request: Request): void {
    const { start } = this.waiting.find((other) => other.request === request)!
    this.#time[request.class] = Math.max(this.#time[request.class], start)
    this.#remove(request)
  }

  /** Those of its tenant who came later need not wait for it, and the tenant does not pay. */
  leave(request: Request): void {
    for (const other of this.waiting) {
      if (key(other.request) === key(request) && other.request.id > request.id)
        other.start -= request.cost
    }
    this.#finish.set(key(request), this.#finish.get(key(request))! - request.cost)
    this.#remove(request)
  }

  #remove(request: Request): void {
    this.waiting = this.waiting.filter((other) => other.request !== request)
    if (this.waiting.some((other) => other.request.class === request.class)) return
    this.#time[request.class] = 0
    for (const name of this.#finish.keys())
      if (name.startsWith(request.class)) this.#finish.delete(name)
  }
}

const key = (request: Request) => `${request.class} ${request.tenant}`

const odd = fc.constantFrom(Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, -5, 0)
const command = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('join' as const),
      tenant: fc.constantFrom('a', 'a', 'a', 'b', 'c', 'd'),
      class: fc.constantFrom(...CLASSES),
      tokens: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 3000 }) }, odd),
      waitMs: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 300 }) }, odd),
      kind: fc.nat(2),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), which: fc.nat() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('offer' as const),
      slots: fc.nat(4),
      kinds: fc.subarray([0, 1, 2]),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('expire' as const),
      laterMs: fc.oneof(
        { weight: 9, arbitrary: fc.nat(80) },
        fc.constantFrom(-1_000_000, 1_000_000),
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('configure' as const),
      max: fc.nat(12),
      waitMs: fc.nat(200),
    }),
  },
)

/** Does the same to a queue and to the model, and compares after every step. */
class Run {
  max = 12
  waitMs = 200
  now = 1_000_000
  readonly queue = new Queue<Request>({ max: this.max, waitMs: this.waitMs })
  readonly model = new Model()
  readonly entries = new Map<Request, Place<Request>>()
  readonly gone = new Set<Request>()
  joined = 0

  step(given: typeof command extends fc.Arbitrary<infer C> ? C : never): void {
    const before = this.queue.size
    switch (given.do) {
      case 'join':
        this.#join(given)
        break
      case 'leave':
        this.#leave(given.which)
        break
      case 'offer':
        this.offer(given.slots, given.kinds)
        break
      case 'expire':
        this.now += given.laterMs
        for (const request of this.queue.expire(this.now)) this.#ended(request)
        break
      case 'configure':
        this.max = given.max
        this.waitMs = given.waitMs
        this.queue.configure(given)
    }
    equal(this.queue.size, this.model.waiting.length)
    ok(this.queue.size <= Math.max(before, this.max))
    let tokens = 0
    for (const name of CLASSES) {
      const own = this.model.waiting.filter(({ request }) => request.class === name)
      equal(this.queue.sizeOf(name), own.length)
      tokens += own.reduce((sum, { request }) => sum + request.cost, 0)
      equal(this.queue.tokensAhead(name), tokens)
    }
  }

  offer(slots: number, kinds: readonly number[]): void {
    const due = this.model.order().filter(({ kind }) => kinds.includes(kind))
    const served: Request[] = []
    this.queue.offer((request) => {
      if (served.length === slots) return 'stop'
      if (!kinds.includes(request.kind)) return 'passed'
      served.push(request)
      return 'taken'
    })
    deepEqual(served, due.slice(0, slots))
    for (const request of served) {
      this.model.serve(request)
      this.#end(request)
    }
  }

  #join(
    given: Pick<Request, 'tenant' | 'class' | 'kind'> & { tokens: number; waitMs: number },
  ): void {
    const { tokens, waitMs, ...rest } = given
    const cost = tokens > 64 ? Math.min(tokens, 10_000_000) : 64
    const request = { id: ++this.joined, cost, ...rest }
    const deadline = this.now + waitMs
    const asked = this.queue.join({ ...rest, tokens, deadline, item: request })
    if (asked.kind === 'full') {
      this.#end(request)
      return
    }
    if (asked.shed) {
      const { item } = asked.shed
      ok(CLASSES.indexOf(item.class) >= CLASSES.indexOf(request.class))
      equal(item.class === request.class && item.tenant === request.tenant, false)
      this.#ended(item)
    }
    this.model.join(request)
    this.entries.set(request, asked.entry)
    equal(asked.ahead, this.model.order().indexOf(request))
  }

  #leave(which: number): void {
    const requests = [...this.entries.keys()]
    const request = requests[which % requests.length]
    if (!request) return
    const waits = !this.gone.has(request)
    equal(this.queue.leave(this.entries.get(request)!), waits)
    if (waits) this.#ended(request)
  }

  /** Left unserved. */
  #ended(request: Request): void {
    this.model.leave(request)
    this.#end(request)
  }

  #end(request: Request): void {
    equal(this.gone.has(request), false)
    this.gone.add(request)
  }
}

describe('Queue', () => {
  it('serves by the definition, loses nobody, serves nobody twice, and never overflows', () => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 150, size: 'max' }), (commands) => {
        const run = new Run()
        for (const given of commands) run.step(given)
        run.offer(Number.POSITIVE_INFINITY, [0, 1, 2])
        expect([run.queue.size, run.gone.size]).toEqual([0, run.joined])
      }),
      { numRuns: 200 },
    )
  })

  it('starves nobody of a class, however the slots that come free alternate', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(2), { minLength: 1, maxLength: 12 }),
        fc.constantFrom('a', 'b', 'd'),
        fc.nat(2),
        (pattern, tenant, kind) => {
          fc.pre(pattern.includes(kind))
          const run = new Run()
          run.max = 1000
          run.queue.configure({ max: run.max, waitMs: 1e9 })
          const join = (who: 'a' | 'b' | 'c' | 'd', what: number) =>
            run.step({
              do: 'join',
              tenant: who,
              class: 'standard',
              tokens: 500,
              waitMs: 1e6,
              kind: what,
            })
          for (let n = 0; n < 9; n++) join(n % 2 ? 'a' : 'b', n % 3)
          join(tenant, kind)
          const watched = run.joined
          const rounds = 15 * pattern.length
          for (let n = 0; n < rounds; n++) {
            // More comes than is served, of every kind, from everybody.
            for (const who of ['a', 'b', 'c'] as const) join(who, n % 3)
            run.offer(1, [pattern[n % pattern.length]!])
          }
          expect([...run.gone].some(({ id }) => id === watched)).toBe(true)
        },
      ),
      { numRuns: 15 },
    )
  })
})
