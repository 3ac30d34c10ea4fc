/** One instance of two is broken: every tenant gets one whole answer all the same. */
import { InternalServerError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { ask } from '../support/e2e-http.ts'
import {
  generating,
  inFlight,
  isWhole,
  keyOf,
  sdk,
  TABLE,
  textIn,
  type AnyAnswer,
} from '../support/e2e-api.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

const PROFILE = { ttftBaseMs: 5, itlBaseMs: 3 }

/** Each fault has a pool of two of its own, so that all of them can be tried at once. */
const FAULTS: Readonly<Record<string, Fault>> = {
  refuses: { kind: 'refuse' },
  hangs: { kind: 'hang', scope: 'inference' },
  'unavailable-503': { kind: 'status', status: 503 },
  'error-500': { kind: 'status', status: 500 },
  'html-502': { kind: 'html', scope: 'inference' },
  'login-page-302': { kind: 'redirect', scope: 'inference' },
  'error-in-first-frame': { kind: 'stream-error', code: 500 },
  'error-after-the-role': { kind: 'stream-error', code: 503, afterChunks: 1 },
  'cut-at-once': { kind: 'cut', afterChunks: 0 },
  'cut-in-first-frame': { kind: 'cut', afterChunks: 0, midFrame: true },
  'ends-without-content': { kind: 'early-end', afterChunks: 0 },
  'aborts-at-shutdown': { kind: 'abort' },
}

/** Completions begin with text: there is no frame before the content in which an error could follow. */
const ONLY: Readonly<Record<string, string>> = { 'error-after-the-role': '/v1/chat/completions' }

const pairOf = (pool: string): SimSpec[] =>
  ['good', 'bad'].map((name) => ({ id: `${pool}-${name}`, pool, options: { profile: PROFILE } }))

const POOLS = [...Object.keys(FAULTS), 'own-fault', 'cut-later', 'nobody']

describe.each([
  { way: 'through Nginx', viaNginx: true },
  { way: 'by url', viaNginx: false },
])('one of two instances, $way,', ({ viaNginx }) => {
  let stack: Stack
  const simsOf = (pool: string): readonly [good: Sim, bad: Sim] => [
    stack.sims[`${pool}-good`]!,
    stack.sims[`${pool}-bad`]!,
  ]
  beforeAll(async () => {
    stack = await startStack({
      viaNginx,
      sims: POOLS.flatMap(pairOf),
      pools: { hangs: { timeouts: { first_byte: '1500ms' } } },
    })
    for (const [pool, fault] of Object.entries(FAULTS)) await simsOf(pool)[1].setFault(fault)
  })
  afterAll(() => stack?.stop())

  /** Requests of every kind at once, so that the broken one is asked first by some of them. */
  const everyKind = (pool: string) =>
    Promise.all(
      TABLE.filter(({ path }) => (ONLY[pool] ?? path) === path).flatMap((row) =>
        [0, 1, 2, 3].map(async (i) => {
          const stream = i % 2 === 0
          const fields = { stream, max_tokens: 12, seed: i }
          const expected = await ask(simsOf(pool)[0].url + row.path, {
            body: row.body(pool, 'failover', fields),
          })
          const got = await ask(stack.url + row.path, {
            headers: keyOf(stack),
            body: row.body(pool, 'failover', fields),
          })
          return { ...got, path: row.path, stream, expected: textIn(expected.text) }
        }),
      ),
    )

  it.concurrent.each(Object.keys(FAULTS))('%s: one whole answer for all', async (pool) => {
    const [good, bad] = simsOf(pool)
    const answers = await everyKind(pool)
    for (const { status, text, stream, headers, expected, complete } of answers) {
      expect({ status, complete, whole: stream ? isWhole(text) : true }).toEqual({
        status: 200,
        complete: true,
        whole: true,
      })
      expect(textIn(text)).toBe(expected)
      expect(headers['x-penstock-instance']).toBe(`${pool}-good`)
    }
    const tries = answers.map(({ headers }) => Number(headers['x-penstock-attempts']))
    expect(Math.max(...tries)).toBe(2) // the broken one was asked
    // Nothing goes on at the broken one for a request that another has answered.
    await eventually(
      () => bad.state(),
      ({ running, waiting }) => running + waiting === 0,
    )
    const status = await eventually(
      () => stack.pool(pool),
      (it) => inFlight(it) === 0,
    )
    expect(status.ended.done).toBe(answers.length)
    expect(status.ended['client-left'] + status.ended.lost).toBe(0)
    expect(good.state().running).toBe(0)
  })

  it.concurrent('cut after content but not streamed yet: one whole answer for all', async () => {
    const pool = 'cut-later'
    const [good, bad] = simsOf(pool)
    await bad.setFault({ kind: 'cut', afterChunks: 5, midFrame: true })
    const row = TABLE[0]!
    const body = row.body(pool, 'late', { max_tokens: 12 })
    const expected = textIn((await ask(good.url + row.path, { body })).text)
    for (let i = 0; i < 4; i++) {
      const { status, text } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
      expect({ status, text: textIn(text) }).toEqual({ status: 200, text: expected })
    }
    expect(generating(bad).some(({ outcome }) => outcome === 'cut')).toBe(true)
  })

  it.concurrent.each(TABLE)(
    "a 4xx in the first frame is the tenant's answer at once ($path)",
    async (row) => {
      const pool = 'own-fault'
      const [good, bad] = simsOf(pool)
      for (const sim of [good, bad]) await sim.setFault({ kind: 'stream-error', code: 400 })
      for (const stream of [true, false]) {
        const { status, headers, text } = await ask(stack.url + row.path, {
          headers: keyOf(stack),
          body: row.body(pool, `${row.path} ${stream}`, { stream }),
        })
        expect(status).toBe(400)
        expect(JSON.parse(text)).toEqual({
          error: {
            message: 'The request could not be processed.',
            type: 'BadRequestError',
            param: null,
            code: 'invalid_value',
          },
        })
        expect(headers['x-penstock-attempts']).toBe('1')
        const asked = [good, bad].flatMap(generating)
        expect(asked.filter(({ id }) => id === headers['x-request-id'])).toHaveLength(1)
      }
    },
  )

  it.concurrent('both fail: the last reason is told, as the SDK can throw it', async () => {
    const pool = 'nobody'
    for (const sim of simsOf(pool)) await sim.setFault({ kind: 'status', status: 503 })
    const client = sdk(stack)
    for (const stream of [true, false]) {
      const failed = client.chat.completions.create({
        model: pool,
        messages: [{ role: 'user', content: 'x' }],
        stream,
      })
      await expect(failed).rejects.toThrow(InternalServerError)
      await expect(failed).rejects.toMatchObject({
        status: 502,
        code: 'upstream_failed',
        message: expect.stringContaining('currently busy') as string,
      })
    }
    for (const sim of simsOf(pool)) await sim.setFault(null)
  })
})

describe('health', () => {
  let stack: Stack
  beforeAll(async () => {
    stack = await startStack({
      viaNginx: true,
      sims: ['watched', 'flapping'].flatMap(pairOf),
      fleet: {
        defaults: {
          health: { every: '400ms', timeout: '390ms', down_after: 3, up_after: 2 },
        },
      },
    })
  })
  afterAll(() => stack?.stop())

  const stateOf = async (pool: string, id: string) =>
    (await stack.pool(pool)).instances.find((instance) => instance.id === id)?.state
  const readings = (sim: Sim) => sim.requests().filter(({ path }) => path === '/metrics')
  const asked = async (pool: string) => {
    const row = TABLE[0]!
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

    const before = generating(bad).filter(({ path }) => path === TABLE[0]!.path).length
    for (let i = 0; i < 6; i++) expect(await asked(pool)).toEqual({ status: 200, choices: 1 })
    expect(generating(bad).filter(({ path }) => path === TABLE[0]!.path)).toHaveLength(before)

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
        return generating(bad).filter(({ path }) => path === TABLE[0]!.path).length
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
