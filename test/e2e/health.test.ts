/** Who is looked at and found dead gets nothing, until he is found well again. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { generating, keyOf, type AnyAnswer } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { instanceIn } from '../support/pool-calls.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

/** Some rounds of looks, however slow the machine. */
const SOON_MS = 20_000
const PROFILE = { ttftBaseMs: 5, itlBaseMs: 3 }

const pairOf = (pool: string): SimSpec[] =>
  ['good', 'bad'].map((name) => ({ id: `${pool}-${name}`, pool, options: { profile: PROFILE } }))

describe('health', () => {
  let stack: Stack
  beforeAll(async () => {
    stack = await startStack({
      viaNginx: true,
      sims: ['watched', 'flapping'].flatMap(pairOf),
      fleet: {
        defaults: {
          health: { every: '1s', timeout: '990ms', down_after: 3, up_after: 2 },
          slow_start: '0s', // back at once, with its whole share
        },
      },
    })
  })
  afterAll(() => stack?.stop())

  const statusOf = async (pool: string, id: string) => instanceIn(await stack.pool(pool), id)
  // All since the start: one that is under way could not be told from those before it otherwise.
  const readings = (sim: Sim) => sim.requests().filter(({ path }) => path === '/metrics')
  const failures = (sim: Sim) => readings(sim).filter(({ status }) => status === 503)
  const goodSinceFailure = (sim: Sim) => {
    const all = readings(sim)
    const last = all.findLastIndex(({ status }) => status === 503)
    return all.slice(last + 1).filter(({ status }) => status === 200).length
  }
  const asked = async (pool: string) => {
    const row = CHAT
    const { status, text } = await ask(stack.url + row.path, {
      headers: keyOf(stack),
      body: row.body(pool, 'health', { max_tokens: 1 }),
    })
    return { status, choices: (JSON.parse(text) as AnyAnswer).choices?.length }
  }

  it.concurrent('a dead instance is out after down_after readings, and back after up_after', async () => {
    const [pool, bad] = ['watched', stack.sims['watched-bad']!]
    await bad.setFault({ kind: 'status', status: 503, delayMs: 0, scope: 'all' })
    const { since } = await eventually(
      () => statusOf(pool, 'watched-bad'),
      ({ state }) => state === 'down',
      SOON_MS,
    )
    const failed = failures(bad).filter(({ arrivedAt }) => arrivedAt <= since)
    expect(failed.length).toBeGreaterThanOrEqual(3)
    expect(failed.length).toBeLessThanOrEqual(4) // one of them may have been read twice, being late

    const before = generating(bad).filter(({ path }) => path === CHAT.path).length
    for (let i = 0; i < 6; i++) expect(await asked(pool)).toEqual({ status: 200, choices: 1 })
    expect(generating(bad).filter(({ path }) => path === CHAT.path)).toHaveLength(before)

    await bad.setFault(null)
    await eventually(
      () => statusOf(pool, 'watched-bad'),
      ({ state }) => state === 'ready',
      SOON_MS,
    )
    expect(goodSinceFailure(bad)).toBeGreaterThanOrEqual(2)
    // And it is asked again.
    await eventually(
      async () => {
        await asked(pool)
        return generating(bad).filter(({ path }) => path === CHAT.path).length
      },
      (seen) => seen > before,
      SOON_MS,
    )
  })

  it.concurrent('fewer failed readings than down_after change nothing', async () => {
    const [pool, bad] = ['flapping', stack.sims['flapping-bad']!]
    for (let flap = 0; flap < 2; flap++) {
      const failed = 2 * (flap + 1)
      await bad.setFault({ kind: 'status', status: 503, delayMs: 0, scope: 'all', times: 2 })
      await eventually(
        async () => {
          expect((await statusOf(pool, 'flapping-bad')).state).toBe('ready')
          return { failed: failures(bad).length, good: goodSinceFailure(bad) }
        },
        (seen) => seen.failed === failed && seen.good >= 2,
        SOON_MS,
      )
    }
  })
})
