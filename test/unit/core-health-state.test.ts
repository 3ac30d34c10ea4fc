import { describe, expect, it } from 'vitest'
import {
  needsEntrance,
  next,
  starting,
  type Health,
  type Reading,
} from '../../durable-objects/health/state.ts'
import { healthConfig } from './core-builders.ts'
import { unwell, WELL } from './core-rounds.ts'

describe('next', () => {
  const config = healthConfig({ downAfter: 3, upAfter: 2 })
  const READINGS: Readonly<Record<string, Reading>> = {
    '+': { kind: 'well' },
    '-': { kind: 'unwell', reason: 'refused' },
    m: { kind: 'mismatch', reason: 'serves x, not y' },
    u: { kind: 'unreached', reason: '530' },
    s: { kind: 'still', reason: 'it stands still' },
    f: { kind: 'frozen', reason: 'it is frozen' },
  }

  /** The states an instance goes through, one letter for each reading. */
  function course(from: Health['state'], readings: string): string[] {
    let health: Health = { state: from, reason: '', since: 0, run: 0 }
    return readings.split('').map((reading, i) => {
      health = next(health, READINGS[reading]!, config, i + 1)
      return health.state
    })
  }

  it.each([
    { from: 'starting', readings: '+', course: 'ready', why: 'its entrance is proof enough' },
    { from: 'ready', readings: '--+--', course: 'ready', why: 'no three were bad in a row' },
    { from: 'ready', readings: '---', course: 'down', why: 'three in a row were bad' },
    { from: 'down', readings: '+', course: 'down', why: 'one good reading may be luck' },
    { from: 'down', readings: '++', course: 'ready', why: 'two in a row were good' },
    { from: 'down', readings: '+-+', course: 'down', why: 'a bad one starts the count anew' },
    { from: 'starting', readings: '--', course: 'starting', why: 'it may still be loading' },
    { from: 'starting', readings: '---', course: 'down', why: 'it never came up' },
    { from: 'ready', readings: 'm', course: 'mismatch', why: 'it serves another model' },
    { from: 'mismatch', readings: '+', course: 'ready', why: 'it serves the right one again' },
    { from: 'mismatch', readings: '---', course: 'down', why: 'it does not answer any more' },
    { from: 'ready', readings: 'uuuuuu', course: 'ready', why: 'the way is at fault (L14)' },
    {
      from: 'ready',
      readings: '--uu+--',
      course: 'ready',
      why: 'what is unseen counts for nothing',
    },
    { from: 'down', readings: 'uu', course: 'down', why: 'nothing new was seen of it' },
    { from: 'starting', readings: 'uuuu', course: 'starting', why: 'nobody has seen it yet' },
    { from: 'ready', readings: 's', course: 'suspect', why: 'it has work and stands still (L07)' },
    { from: 'suspect', readings: 's', course: 'suspect', why: 'nothing is decided' },
    { from: 'suspect', readings: '+', course: 'ready', why: 'it moves again' },
    { from: 'suspect', readings: 'f', course: 'down', why: 'its one chance is over (L07)' },
    { from: 'suspect', readings: '---', course: 'down', why: 'it does not answer any more' },
    { from: 'down', readings: 'f+', course: 'down', why: 'one good reading may be luck' },
  ] as const)('makes $from $course after $readings, since $why', (row) => {
    expect(course(row.from, row.readings).at(-1)).toBe(row.course)
  })

  it('tells since when and why', () => {
    const health = starting(10)
    const ready = next(health, WELL.reading, config, 20)
    expect(ready).toMatchObject({ state: 'ready', since: 20 })
    const stillReady = next(ready, unwell().reading, config, 30)
    expect(stillReady, 'a ready one goes on saying so').toMatchObject({
      since: 20,
      reason: 'healthy',
    })
    const down = [40, 50].reduce(
      (was, now) => next(was, unwell('refused').reading, config, now),
      stillReady,
    )
    expect(down).toMatchObject({ state: 'down', since: 50, reason: 'refused' })
    const later = next(down, unwell('timed out').reading, config, 60)
    expect(later).toMatchObject({ since: 50, reason: 'timed out' })
  })

  it('tells what one that starts is waiting for', () => {
    expect(next(starting(0), unwell('refused').reading, config, 1)).toMatchObject({
      state: 'starting',
      reason: 'refused',
    })
  })

  it('asks everyone for the entrance check but who has passed it', () => {
    const states = ['starting', 'ready', 'suspect', 'mismatch', 'down'] as const
    const asked = states.filter((state) => needsEntrance({ state, reason: '', since: 0, run: 0 }))
    expect(asked).toEqual(['starting', 'mismatch', 'down'])
  })
})
