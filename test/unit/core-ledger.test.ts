import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { LeaseId } from '../../durable-objects/pool/seat.ts'
import { Books } from './core-books.ts'
import { demand, instance } from './core-builders.ts'
import { work } from './core-requests.ts'

const MINUTE = 60_000

/** A ledger with a clock of its own; every seat is ready unless its id is in `down`. */
function ledgerOf(...ids: readonly string[]) {
  const ledger = new Books()
  ledger.configure(ids.map((id) => instance({ instance: id })))
  return { ledger, clock: ledger.clock, down: ledger.down }
}

function granted(ledger: Books, named: Parameters<typeof demand>[0] = {}) {
  const decision = ledger.acquire(demand(named))
  if (decision.kind !== 'granted') throw new Error(decision.kind)
  return decision
}

let requests = 0
/** An owner who comes back; another one each time unless named. */
const owner = (request = `req_back_${++requests}`) => ({ ...demand({ request }), instance: 'a' })

const inFlight = (ledger: Books): number[] =>
  [...ledger.everySeat()].map((seat) => ledger.inFlight(seat))

describe('Ledger', () => {
  it('counts a slot from the moment it is given until it is given back (L06)', () => {
    const { ledger } = ledgerOf('a')
    const { lease, seat } = granted(ledger)
    expect(ledger.inFlight(seat)).toBe(1)
    ledger.release(lease, { ending: 'done' })
    expect(ledger.inFlight(seat)).toBe(0)
  })

  it('counts a lease once, however often it is given back (L04)', () => {
    const { ledger } = ledgerOf('a')
    const first = granted(ledger)
    granted(ledger)
    ledger.release(first.lease, { ending: 'done' })
    ledger.release(first.lease, { ending: 'lost' })
    ledger.release(first.lease, { ending: 'lost' })
    expect(inFlight(ledger)).toEqual([1])
    expect(ledger.ended).toMatchObject({ done: 1, lost: 0 })
  })

  it('gives no more than slots, then says busy, then gives the slot that came back', () => {
    const { ledger } = ledgerOf('a')
    const leases = [1, 2, 3, 4].map(() => granted(ledger).lease)
    expect(ledger.acquire(demand()).kind).toBe('busy')
    ledger.release(leases[2]!, { ending: 'client-left' })
    expect(ledger.acquire(demand()).kind).toBe('granted')
    expect(ledger.acquire(demand()).kind).toBe('busy')
  })

  it('says what stands in the way', () => {
    const { ledger, down } = ledgerOf('a', 'b')
    expect(ledger.acquire(demand({ avoid: ['a', 'b'] })).kind).toBe('all-avoided')
    down.add('a').add('b')
    expect(ledger.acquire(demand()).kind).toBe('none-ready')
  })

  it('gives a retry to another instance', () => {
    const { ledger } = ledgerOf('a', 'b')
    const first = granted(ledger)
    const second = granted(ledger, { avoid: [first.seat.config.instance] })
    expect(second.seat).not.toBe(first.seat)
  })

  it('starts a re-created instance at 0 and lets the old one drain (L04, L12)', () => {
    const { ledger } = ledgerOf('a')
    const old = granted(ledger)
    ledger.configure([instance({ process: 'site 10.0.0.9:8001 M' })], 'least_inflight')
    expect(old.seat.draining).toBe(true)
    expect(inFlight(ledger)).toEqual([0, 1])
    expect(granted(ledger).seat).not.toBe(old.seat)

    ledger.release(old.lease, { ending: 'done' })
    expect(inFlight(ledger)).toEqual([1])
  })

  it('forgets an idle instance that has left, and never chooses one that drains', () => {
    const { ledger } = ledgerOf('a', 'b')
    const busy = granted(ledger)
    ledger.configure([], 'least_inflight')
    expect([...ledger.everySeat()]).toEqual([busy.seat])
    expect(ledger.acquire(demand()).kind).toBe('none-ready')
  })

  it('keeps the count of an instance whose slots or weight change', () => {
    const { ledger } = ledgerOf('a')
    granted(ledger)
    ledger.configure([instance({ slots: 1, weight: 3 })], 'round_robin')
    expect(inFlight(ledger)).toEqual([1])
    expect(ledger.policy).toBe('round_robin')
    expect(ledger.acquire(demand()).kind).toBe('busy')
  })

  it('takes a request back after a reset even where no slot is free: it runs there already', () => {
    const { ledger } = ledgerOf('a')
    for (let i = 0; i < 4; i++) granted(ledger)
    const lease = ledger.reattach(owner())
    expect(lease).not.toBeNull()
    expect(inFlight(ledger)).toEqual([5])
    expect(ledger.reattach({ ...demand(), instance: 'gone' })).toBeNull()
  })

  it('counts a request once that comes back although it was never forgotten', () => {
    const { ledger } = ledgerOf('a')
    const { lease } = granted(ledger, { request: 'req_7' })
    const back = ledger.reattach(owner('req_7'))!
    expect(inFlight(ledger)).toEqual([1])
    ledger.release(lease, { ending: 'lost' })
    expect(inFlight(ledger), 'the older lease means nothing any more').toEqual([1])
    ledger.release(back, { ending: 'done' })
    expect(inFlight(ledger)).toEqual([0])
    expect(ledger.ended).toMatchObject({ done: 1, lost: 0 })
  })

  it('has nothing ahead of one who came back by mistake once he is gone', () => {
    const { ledger } = ledgerOf('a')
    const { seat } = granted(ledger, { request: 'req_7', work: work({ promptTokens: 1_000 }) })
    expect(seat.backlog.promptTokensAhead).toBe(1_000)
    ledger.release(ledger.reattach(owner('req_7'))!, { ending: 'done' })
    expect([seat.backlog.promptTokensAhead, seat.backlog.outputTokensAhead]).toEqual([0, 0])
  })

  it('counts a request once that came back by mistake after another of its attempts has ended', () => {
    const { ledger } = ledgerOf('a', 'b')
    const first = granted(ledger, { request: 'req_7', avoid: ['a'] })
    granted(ledger, { request: 'req_7', avoid: ['b'] })
    ledger.release(first.lease, { ending: 'upstream-failed' })
    ledger.reattach(owner('req_7'))
    expect(inFlight(ledger)).toEqual([1, 0])
  })

  it('gives the trial of one who came back by mistake back with how he ends', () => {
    const heard: unknown[] = []
    const ledger = new Books({ take: () => 42, record: (_seat, { pass }) => heard.push(pass) })
    ledger.configure([instance({ instance: 'a' }), instance({ instance: 'b' })])
    granted(ledger, { request: 'req_7', avoid: ['b'] })
    ledger.release(ledger.reattach(owner('req_7'))!, { ending: 'done' })
    granted(ledger, { request: 'req_8', avoid: ['a'] })
    ledger.release(ledger.reattach(owner('req_8'))!, { ending: 'done' })
    expect(heard, 'of another instance it would be none of its own').toEqual([42, undefined])
  })

  it('counts what still runs on a process that left and is named again', () => {
    const { ledger } = ledgerOf('a')
    const before = granted(ledger)
    for (let i = 0; i < 3; i++) granted(ledger)
    ledger.configure([], 'least_inflight')
    ledger.configure([instance()], 'least_inflight')
    expect(inFlight(ledger)).toEqual([4])
    expect(ledger.acquire(demand()).kind).toBe('busy')
    ledger.release(before.lease, { ending: 'done' })
    expect(granted(ledger).seat).toBe(before.seat)
  })

  it('knows a process by its address, whatever the fleet calls it', () => {
    const { ledger } = ledgerOf('a')
    const { seat } = granted(ledger)
    const renamed = instance({ instance: 'b', process: seat.config.process })
    ledger.configure([renamed], 'least_inflight')
    expect([...ledger.everySeat()]).toEqual([seat])
    expect(granted(ledger).seat.config.instance).toBe('b')
    expect(inFlight(ledger)).toEqual([2])
  })

  it('says that it was the last resort, and whose turn it was else', () => {
    const { ledger, down } = ledgerOf()
    ledger.configure(
      [instance({ instance: 'a' }), instance({ instance: 'service', lastResort: true })],
      'round_robin',
    )
    expect(granted(ledger)).toMatchObject({ reason: 'round_robin' })
    down.add('a')
    const { reason, seat } = granted(ledger)
    expect([seat.config.instance, reason]).toEqual(['service', 'last_resort'])
  })

  it('reads a configuration that an earlier release has stored', () => {
    const { ledger } = ledgerOf()
    const { lastResort: _, ...older } = instance({ instance: 'a' })
    ledger.configure([older as ReturnType<typeof instance>], 'least_inflight')
    expect(granted(ledger)).toMatchObject({ reason: 'least_inflight' })
  })

  it('adds up the tokens of what has ended, each request once, and keeps estimates apart', () => {
    const { ledger } = ledgerOf('a')
    const { lease } = granted(ledger)
    const counts = { promptTokens: 10, completionTokens: 5, cachedTokens: 4 }
    ledger.release(lease, { ending: 'done', ...counts, counted: 'reported' })
    ledger.release(lease, { ending: 'done', ...counts, counted: 'reported' })
    ledger.release(granted(ledger).lease, {
      ending: 'client-left',
      promptTokens: 1,
      completionTokens: 2,
      counted: 'ids',
    })
    ledger.release(granted(ledger).lease, {
      ending: 'truncated',
      ...counts,
      counted: 'estimate',
    })
    expect(ledger.tokens.totals).toEqual({ prompt: 11, completion: 7, cached: 4, estimated: 15 })
  })

  it('adds up what a Worker of the release before says, and nothing for who says nothing', () => {
    const { ledger } = ledgerOf('a')
    ledger.release(granted(ledger).lease, { ending: 'lost' })
    ledger.release(granted(ledger).lease, {
      ending: 'done',
      promptTokens: 3,
      completionTokens: null,
      cachedTokens: null,
      counted: null,
    })
    ledger.release(granted(ledger).lease, { ending: 'done', promptTokens: 4, completionTokens: 2 })
    expect(ledger.tokens.totals).toEqual({ prompt: 7, completion: 2, cached: 0, estimated: 0 })
  })

  it('counts an ending that only a newer Worker knows as lost', () => {
    const { ledger } = ledgerOf('a')
    for (const ending of ['paused', 'toString', '__proto__'])
      ledger.release(granted(ledger).lease, { ending: ending as Ending })
    expect(inFlight(ledger)).toEqual([0])
    expect(ledger.ended.lost).toBe(3)
    expect(Object.keys(ledger.ended)).toHaveLength(7)
  })

  it.each([
    { remainingMs: 5 * MINUTE, why: 'a short one' },
    { remainingMs: 4 * 60 * MINUTE, why: 'one of four hours' },
  ])("sweeps a lease after its own request's deadline, not a fixed time: $why (L05)", (asked) => {
    const { ledger, clock } = ledgerOf('a')
    const { lease } = granted(ledger, asked)
    clock.now += asked.remainingMs
    ledger.sweep()
    expect(inFlight(ledger)).toEqual([1])
    clock.now += 5 * MINUTE
    ledger.sweep()
    expect(inFlight(ledger)).toEqual([0])
    expect(ledger.ended.lost).toBe(1)

    ledger.release(lease, { ending: 'done' })
    expect(ledger.ended).toMatchObject({ done: 0, lost: 1 })
  })

  it('sweeps an instance that drains as well', () => {
    const { ledger, clock } = ledgerOf('a')
    granted(ledger, { remainingMs: MINUTE })
    ledger.configure([], 'least_inflight')
    clock.now += 10 * MINUTE
    ledger.sweep()
    expect([...ledger.everySeat()]).toEqual([])
  })
})

describe('a ledger after a reset', () => {
  /** A fresh ledger over one instance of 4 slots whose engine says that `running` requests run. */
  function reborn(running: number) {
    const { ledger } = ledgerOf('a')
    ledger.expectOwners(() => running)
    return ledger
  }
  const freeSlots = (ledger: Books): number => {
    let free = 0
    while (ledger.acquire(demand()).kind === 'granted') free++
    return free
  }

  it.each([
    { running: 0, free: 4 },
    { running: 3, free: 1 },
    { running: 4, free: 0 },
    { running: 9, free: 0 },
  ])('gives $free of 4 slots while its engine runs $running', ({ running, free }) => {
    expect(freeSlots(reborn(running))).toBe(free)
  })

  it('counts an owner who comes back as one of those that ran already', () => {
    const ledger = reborn(3)
    for (let i = 0; i < 3; i++) ledger.reattach(owner())
    expect(inFlight(ledger)).toEqual([3])
    expect(freeSlots(ledger)).toBe(1)
  })

  it('counts more owners than the engine knew of', () => {
    const ledger = reborn(1)
    for (let i = 0; i < 3; i++) ledger.reattach(owner())
    expect(inFlight(ledger)).toEqual([3])
  })

  it('adds new requests to those that the engine had, of which some owners are back', () => {
    const ledger = reborn(2)
    ledger.reattach(owner())
    granted(ledger)
    granted(ledger)
    expect(inFlight(ledger)).toEqual([4])
    expect(ledger.acquire(demand()).kind).toBe('busy')
  })

  it('knows a new one for new who came back by mistake: the engine did not have it', () => {
    const ledger = reborn(2)
    granted(ledger, { request: 'req_7' })
    ledger.reattach(owner('req_7'))
    expect(inFlight(ledger)).toEqual([3])
  })

  it('frees a slot when an owner who came back is done: the engine has one less', () => {
    const ledger = reborn(4)
    const back = ledger.reattach(owner())!
    expect(ledger.acquire(demand()).kind).toBe('busy')
    ledger.release(back, { ending: 'done' })
    expect(inFlight(ledger)).toEqual([3])
    const fresh = granted(ledger)
    ledger.release(fresh.lease, { ending: 'done' })
    expect(inFlight(ledger), 'a new one was never among them').toEqual([3])
  })

  it('goes by its leases alone once owners had their time', () => {
    const ledger = reborn(4)
    ledger.reattach(owner())
    ledger.expectOwners(() => 0)
    expect(inFlight(ledger)).toEqual([1])
    expect(freeSlots(ledger)).toBe(3)
  })

  it('never gives more than slots − what the engine runs, whoever comes back in between', () => {
    const steps = fc.array(fc.constantFrom('acquire', 'reattach', 'release'), { maxLength: 30 })
    fc.assert(
      fc.property(fc.nat(6), steps, (running, script) => {
        const ledger = reborn(running)
        const fresh: LeaseId[] = []
        for (const step of script) {
          if (step === 'acquire') {
            const decision = ledger.acquire(demand())
            if (decision.kind === 'granted') fresh.push(decision.lease)
          } else if (step === 'reattach') ledger.reattach(owner())
          else ledger.release(fresh.shift() ?? -1, { ending: 'done' })
          expect(fresh.length).toBeLessThanOrEqual(Math.max(0, 4 - running))
        }
      }),
    )
  })
})

describe('the books, whatever happens', () => {
  const Id = fc.constantFrom('a', 'b', 'c')
  const Step = fc.oneof(
    fc.record({
      do: fc.constant('configure' as const),
      instances: fc.uniqueArray(
        fc.record({ id: Id, generation: fc.nat(1), slots: fc.integer({ min: 1, max: 3 }) }),
        { selector: ({ id }) => id },
      ),
    }),
    fc.record({
      do: fc.constant('acquire' as const),
      remainingMs: fc.integer({ min: -MINUTE, max: 10 * MINUTE }),
    }),
    fc.record({ do: fc.constant('reattach' as const), id: Id, request: fc.nat(5) }),
    fc.record({ do: fc.constant('release' as const), which: fc.nat(40) }),
    fc.record({ do: fc.constant('sweep' as const) }),
    fc.record({
      do: fc.constant('clock' as const),
      by: fc.integer({ min: -MINUTE, max: 30 * MINUTE }),
    }),
  )

  it('balance: never negative, never above slots by an acquire, nothing ends twice', () => {
    fc.assert(
      fc.property(fc.array(Step, { maxLength: 60 }), (script) => {
        const { ledger, clock } = ledgerOf('a', 'b')
        const leases: LeaseId[] = []
        let begun = 0
        for (const step of script) {
          const sizeBefore = ledger.size
          switch (step.do) {
            case 'configure':
              ledger.configure(
                step.instances.map(({ id, generation, slots }) =>
                  instance({ instance: id, process: `${id}.${generation}`, slots }),
                ),
                'round_robin',
              )
              expect(ledger.size, 'nothing running is cut').toBe(sizeBefore)
              break
            case 'acquire': {
              const decision = ledger.acquire(
                demand({ request: `req_new_${begun}`, remainingMs: step.remainingMs }),
              )
              if (decision.kind !== 'granted') break
              begun++
              leases.push(decision.lease)
              const { seat } = decision
              expect(ledger.inFlight(seat)).toBeLessThanOrEqual(seat.config.slots)
              expect(seat.draining).toBe(false)
              break
            }
            case 'reattach': {
              const request = `req_${step.request}`
              const lease = ledger.reattach({ ...demand({ request }), instance: step.id })
              if (lease === null) break
              // Of two leases of one request on one instance, the newer one is the request's.
              begun += ledger.size - sizeBefore
              leases.push(lease)
              break
            }
            case 'release':
              // Picked from all ever given, so that many are released twice, or were swept before.
              ledger.release(leases[step.which % (leases.length || 1)] ?? -1, { ending: 'done' })
              expect(sizeBefore - ledger.size).toBeLessThanOrEqual(1)
              break
            case 'sweep':
              ledger.sweep()
              break
            case 'clock':
              clock.now += step.by
          }
          const counted = inFlight(ledger)
          expect(Math.min(0, ...counted)).toBe(0)
          const ended = Object.values(ledger.ended).reduce((sum, n) => sum + n, 0)
          const running = counted.reduce((sum, n) => sum + n, 0)
          expect(running, 'what is shown is what is held').toBe(ledger.size)
          expect(ended + running, 'each lease that began has ended once or still runs').toBe(begun)
        }
        // All give back, in whatever state they are: the books are empty, and nothing drains for ever.
        for (const lease of leases) ledger.release(lease, { ending: 'done' })
        expect(ledger.size).toBe(0)
        expect([...ledger.everySeat()]).toEqual([...ledger.seats])
      }),
      { numRuns: 300 },
    )
  })
})
