/** Old hours of a ledger become days. */
import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, it } from 'vitest'
import { Ledger } from '../../durable-objects/tenant/ledger.ts'
import { Retention } from '../../durable-objects/tenant/retention.ts'
import { admitted, bill, profile, tenantWith } from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const KEPT = 13 * 31 * DAY
const NOW = Date.parse('2026-11-23T12:00Z')
/** Half an hour past midnight in India, of a day that is long over. */
const OLD = Date.parse('2025-06-01T19:00Z')

const line = (at: number, named = {}) => ({
  at,
  // Days begin at 18:30Z.
  day: new Date(at + 5.5 * HOUR).toISOString().slice(0, 10),
  key: 'k',
  model: 'm',
  requests: 1,
  errors: 1,
  limited: 1,
  promptTokens: at % 7,
  cachedTokens: 4,
  completionTokens: 5,
  estimatedTokens: 1,
  cost: 0.5,
  ...named,
})

/** A ledger of its own, and a clock, in an object that is no tenant. */
const inLedger = (
  name: string,
  run: (kept: { ledger: Ledger; retention: Retention; clock: { now: number } }) => void,
  hoursAtOnce = 1_000,
) =>
  runInDurableObject(tenantStub(name), (_tenant, { storage }) => {
    const ledger = new Ledger(storage.sql)
    ledger.prepare()
    const clock = { now: NOW }
    const deps = { kv: storage.kv, ledger, now: () => clock.now, hoursAtOnce }
    run({ ledger, retention: new Retention(deps), clock })
  })

const by = (ledger: Ledger, unit: 'hour' | 'day' | 'month') =>
  ledger.query({ from: 0, to: NOW + KEPT, by: unit })
const sums = (ledger: Ledger) => ({ days: by(ledger, 'day'), months: by(ledger, 'month') })

/** Forty days of hours, by two keys and two models. */
function fill(ledger: Ledger, from = OLD): void {
  for (let at = from; at < from + 40 * DAY; at += HOUR / 2) {
    ledger.add(line(at))
    if (at % (3 * HOUR) === 0) ledger.add(line(at, { key: 'other' }))
    if (at % (5 * HOUR) === 0) ledger.add(line(at, { model: 'n' }))
  }
}

it('hours past thirteen months become a line for each day, key and model; days and months stay equal', async () => {
  await inLedger('folded', ({ ledger, retention }) => {
    fill(ledger)
    const before = sums(ledger)
    retention.turn()
    expect(sums(ledger)).toEqual(before)
    const { usage } = ledger.page({ after: null, limit: 10_000 })
    expect(usage).toHaveLength(before.days.length)
    // At the first hour of its day: 18:00Z has half an hour of it.
    const places = usage.filter(({ day }) => day === '2025-06-10').map(({ period }) => period)
    expect(new Set(places)).toEqual(new Set(['2025-06-09T18:00Z']))
    const ofOneDay = ledger.query({
      from: Date.parse('2025-06-09T18:30Z'),
      to: Date.parse('2025-06-10T18:30Z'),
      by: 'day',
    })
    expect(ofOneDay.filter(({ period }) => period === '2025-06-10')).toEqual(
      before.days.filter(({ period }) => period === '2025-06-10'),
    )
  })
})

it('hours that are younger stay', async () => {
  await inLedger('young', ({ ledger, retention }) => {
    fill(ledger, NOW - KEPT - 3 * DAY)
    const young = () =>
      ledger.query({ from: NOW - KEPT + HOUR, to: NOW, by: 'hour' }).map(({ period }) => period)
    const before = { sums: sums(ledger), young: young(), all: by(ledger, 'hour').length }
    retention.turn()
    expect(young()).toEqual(before.young)
    expect(sums(ledger)).toEqual(before.sums)
    expect(by(ledger, 'hour').length).toBeLessThan(before.all)
  })
})

it('one turn folds so many hours at most, and turn after turn all of it', async () => {
  await inLedger(
    'turns',
    ({ ledger, retention }) => {
      fill(ledger)
      const before = sums(ledger)
      let turns = 0
      for (; (retention.due ?? Infinity) <= NOW; turns++) {
        const hours = ledger.hours({ from: 0, before: NOW, most: 10_000 }).length
        retention.turn()
        const left = ledger.hours({ from: 0, before: NOW, most: 10_000 }).length
        expect(hours - left).toBeLessThanOrEqual(70)
        expect(sums(ledger)).toEqual(before)
      }
      expect(turns).toBe(Math.ceil((40 * 24) / 70))
      expect(ledger.page({ after: null, limit: 10_000 }).usage).toHaveLength(before.days.length)
    },
    70,
  )
})

it('a turn is due once a day while there is something old, and never without', async () => {
  await inLedger('due', ({ ledger, retention, clock }) => {
    expect(retention.due).toBeNull()
    for (let at = NOW - 2 * DAY; at < NOW + 5 * DAY; at += HOUR) ledger.add(line(at))
    expect(retention.due).toBe(NOW - 2 * DAY + KEPT + DAY)
    let turns = 0
    for (clock.now = NOW + KEPT - 2 * DAY; clock.now < NOW + KEPT + 8 * DAY; clock.now += HOUR) {
      const isDue = (retention.due ?? Infinity) <= clock.now
      if (isDue) turns++
      const before = by(ledger, 'hour').length
      retention.turn()
      expect(by(ledger, 'hour').length < before, 'only then').toBe(isDue)
    }
    expect(turns).toBe(7)
    expect(retention.due).toBeNull()
  })
})

it('while a backup is read page by page, lines stay where they are', async () => {
  await inLedger('held', ({ ledger, retention, clock }) => {
    fill(ledger)
    const all = ledger.page({ after: null, limit: 10_000 })
    retention.hold()
    retention.turn()
    expect(ledger.page({ after: null, limit: 10_000 })).toEqual(all)
    clock.now += 10 * 60_000
    retention.turn()
    expect(ledger.page({ after: null, limit: 10_000 }).usage.length).toBeLessThan(all.usage.length)
  })
})

it('the alarm of a tenant does it, and is set when its object comes back to life', async () => {
  const old = [0, 1, 2].map((hour) => {
    const { at, ...rest } = line(OLD + hour * HOUR)
    return { period: `${new Date(at).toISOString().slice(0, 16)}Z`, ...rest }
  })
  const record = { id: 'aged', created: 1, profile: profile(), keys: [], usage: old }
  await tenant('aged').restore(record)
  await runDurableObjectAlarm(tenantStub('aged'))
  const folded = await tenant('aged').usagePage({ after: null, limit: 9 })
  expect(folded?.usage).toMatchObject([{ period: '2025-06-01T19:00Z', requests: 3 }])

  const key = await tenantWith('ages')
  const alarm = () =>
    runInDurableObject(tenantStub('ages'), (_tenant, { storage }) => storage.getAlarm())
  const { reservation } = await admitted('ages', key)
  await reservation.settle(bill())
  expect(await alarm(), 'what is booked sets none').toBeNull()
  await abortAllDurableObjects()
  await tenant('ages').show()
  const due = await alarm()
  expect(due).toBeGreaterThan(Date.now() + KEPT)
  expect(due).toBeLessThanOrEqual(Date.now() + KEPT + DAY)
})
