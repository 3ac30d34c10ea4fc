/** Who is looked at and found dead gets nothing, until he is found well again. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { generating, keyOf, type AnyAnswer } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

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
          health: { every: '400ms', timeout: '390ms', down_after: 3, up_after: 2 },
          slow_start: '0s', // back at once, with its whole share
        },
      },
    })
  })
  afterAll(() => stack?.stop())

  const stateOf = async (pool: string, id: string) =>
    (await stack.pool(pool)).instances.find((instance) => instance.id === id)?.state
  const readings = (sim: Sim) => sim.requests().filter(({ path }) => path === '/metrics')
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
    bad.clearRequests()
    await bad.setFault({ kind: 'status', status: 503, delayMs: 0, scope: 'all' })
    await eventually(
      () => stateOf(pool, 'watched-bad'),
      (state) => state === 'down',
    )
    const failed = readings(bad).filter(({ status }) => status === 503)
    expect(failed.length).toBeGreaterThanOrEqual(3)
    expect(failed.length).toBeLessThanOrEqual(4) // the look at it takes time as well

    const before = generating(bad).filter(({ path }) => path === CHAT.path).length
    for (let i = 0; i < 6; i++) expect(await asked(pool)).toEqual({ status: 200, choices: 1 })
    expect(generating(bad).filter(({ path }) => path === CHAT.path)).toHaveLength(before)

    bad.clearRequests()
    await bad.setFault(null)
    await eventually(
      () => stateOf(pool, 'watched-bad'),
      (state) => state === 'ready',
    )
    expect(readings(bad).length).toBeGreaterThanOrEqual(2)
    // And it is asked again.
    await eventually(
      async () => {
        await asked(pool)
        return generating(bad).filter(({ path }) => path === CHAT.path).length
      },
      (seen) => seen > 0,
    )
  })

  it.concurrent('fewer failed readings than down_after change nothing', async () => {
    const [pool, bad] = ['flapping', stack.sims['flapping-bad']!]
    for (let flap = 0; flap < 2; flap++) {
      bad.clearRequests()
      await bad.setFault({ kind: 'status', status: 503, delayMs: 0, scope: 'all', times: 2 })
      await eventually(
        async () => {
          expect(await stateOf(pool, 'flapping-bad')).toBe('ready')
          return readings(bad).filter(({ status }) => status === 200).length
        },
        (good) => good >= 2,
      )
      expect(readings(bad).filter(({ status }) => status === 503)).toHaveLength(2)
    }
  })
})
