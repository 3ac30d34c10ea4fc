import { expect, it } from 'vitest'
import { dayIn, momentIn, spanIn } from '../../worker/moments.ts'

it.each([
  ['2026-11-23', '2026-11-23'],
  ['2026-11', '2026-11-01'],
  ['2028-02-29', '2028-02-29'],
  ['2026-02-29', null],
  ['2026-13', null],
  ['2026-11-23T00:00Z', null],
  ['23.11.2026', null],
])('the day %s is %s', (text, day) => {
  expect(dayIn(text)).toBe(day)
})

it.each([
  ['2026-11-23T14:00Z', Date.UTC(2026, 10, 23, 14)],
  ['2026-11-23T14:00:30.5+01:00', Date.UTC(2026, 10, 23, 13, 0, 30, 500)],
  ['2026-11-23T14:00', null],
  ['2026-02-30T14:00Z', null],
  ['2026-11-23T25:00Z', null],
  ['now', null],
])('the moment %s is %s', (text, at) => {
  expect(momentIn(text)).toBe(at)
})

it.each([
  ['30d', 2_592_000_000],
  ['2w', 1_209_600_000],
  ['24h', 86_400_000],
  ['90m', 5_400_000],
  ['0s', 0],
  ['30', null],
  ['1.5h', null],
  ['-1d', null],
  ['1y', null],
])('the span %s is %s milliseconds', (text, ms) => {
  expect(spanIn(text)).toBe(ms)
})
