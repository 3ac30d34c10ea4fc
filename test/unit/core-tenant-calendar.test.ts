import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Calendar } from '../../durable-objects/tenant/calendar.ts'

const HOUR_MS = 3_600_000
const at = (iso: string): number => Date.parse(iso)

describe('a calendar', () => {
  it.each([
    { zone: 'UTC', now: '2026-11-23T23:59:59.999Z', day: '2026-11-23', month: '2026-11' },
    { zone: 'Asia/Shanghai', now: '2026-11-30T16:00:00Z', day: '2026-12-01', month: '2026-12' },
    { zone: 'Asia/Kolkata', now: '2026-11-23T18:29:59Z', day: '2026-11-23', month: '2026-11' },
    { zone: 'Asia/Kolkata', now: '2026-11-23T18:30:00Z', day: '2026-11-24', month: '2026-11' },
    { zone: 'America/New_York', now: '2027-01-01T04:59:59Z', day: '2026-12-31', month: '2026-12' },
  ])('$now is of $day in $zone', ({ zone, now, day, month }) => {
    expect(new Calendar(zone).period(at(now))).toMatchObject({ day, month })
  })

  it.each([
    { zone: 'UTC', now: '2026-11-23T14:30:00Z', ends: '2026-11-24T00:00:00Z', why: 'a plain day' },
    {
      zone: 'Europe/Berlin',
      now: '2026-03-28T23:30:00Z',
      ends: '2026-03-29T22:00:00Z',
      why: 'a day of 23 hours',
    },
    {
      zone: 'Europe/Berlin',
      now: '2026-10-24T22:30:00Z',
      ends: '2026-10-25T23:00:00Z',
      why: 'a day of 25 hours',
    },
    {
      zone: 'Africa/Cairo',
      now: '2026-04-23T12:00:00Z',
      ends: '2026-04-23T22:00:00Z',
      why: 'a midnight that is left out',
    },
  ])('the day ends at $ends in $zone, $why', ({ zone, now, ends }) => {
    expect(new Calendar(zone).period(at(now)).dayEnds).toBe(at(ends))
  })

  it('the month ends with its last day, wherever in it one asks', () => {
    const berlin = new Calendar('Europe/Berlin')
    expect(berlin.period(at('2026-10-01T00:00:00Z')).monthEnds).toBe(at('2026-10-31T23:00:00Z'))
    expect(berlin.period(at('2026-10-31T22:59:59Z')).monthEnds).toBe(at('2026-10-31T23:00:00Z'))
  })

  it('answers from memory as it does afresh, clocks that jump included', () => {
    const hours = fc.array(fc.integer({ min: -50, max: 50 }), { maxLength: 30 })
    const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'Australia/Lord_Howe', 'America/Havana')
    fc.assert(
      fc.property(zones, hours, (zone, jumps) => {
        const kept = new Calendar(zone)
        let now = at('2026-10-25T00:30:00Z')
        for (const jump of jumps) {
          now += jump * HOUR_MS
          expect(kept.period(now)).toEqual(new Calendar(zone).period(now))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('begins the next day where the last one ends, a whole year long', () => {
    const calendar = new Calendar('America/Sao_Paulo')
    let now = at('2026-01-01T03:00:00Z')
    const days = new Set<string>()
    while (now < at('2027-01-01T03:00:00Z')) {
      const { day, dayEnds } = calendar.period(now)
      expect(calendar.period(dayEnds - 1).day).toBe(day)
      days.add(day)
      now = dayEnds
    }
    expect(days.size).toBe(365)
  })

  it('does not ask for the zone again within a day', () => {
    const calendar = new Calendar('Europe/Berlin')
    const noon = at('2026-11-23T12:00:00Z')
    const period = calendar.period(noon)
    expect(calendar.period(noon + HOUR_MS)).toBe(period)
    expect(calendar.period(period.dayEnds)).not.toBe(period)
  })
})
