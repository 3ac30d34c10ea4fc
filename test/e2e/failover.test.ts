/** One instance of two is broken: every tenant gets one whole answer all the same. */
import { InternalServerError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { ask } from '../support/e2e-http.ts'
import { generating, inFlight, isWhole, keyOf, sdk, textIn } from '../support/e2e-api.ts'
import { ALL, STREAMED, type Row } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

const PROFILE = { ttftBaseMs: 5, itlBaseMs: 3, prefillMsPerToken: 0 }

interface Broken {
  readonly fault: Fault
  /** The endpoints where it makes a difference; default: all. */
  readonly where?: (row: Row) => boolean
  /** Only for requests that ask for a stream. */
  readonly streamed?: true
}

const streams = ({ path }: Row): boolean => STREAMED.some((row) => row.path === path)
const opensFirst = ({ path }: Row): boolean => /chat|responses|messages$/.test(path)

/** Each fault has a pool of two of its own, so that all of them can be tried at once. */
const FAULTS: Readonly<Record<string, Broken>> = {
  refuses: { fault: { kind: 'refuse' } },
  // What is not streamed and too late is not asked for twice: see below.
  hangs: { fault: { kind: 'hang', scope: 'inference' }, where: ({ assembled }) => assembled },
  'hangs-streamed': {
    fault: { kind: 'hang', scope: 'inference' },
    where: (row) => streams(row) && !row.assembled,
    streamed: true,
  },
  'unavailable-503': { fault: { kind: 'status', status: 503 } },
  'error-500': { fault: { kind: 'status', status: 500 } },
  'html-502': { fault: { kind: 'html', scope: 'inference' } },
  'html-200': { fault: { kind: 'html', scope: 'inference', status: 200 } },
  'login-page-302': { fault: { kind: 'redirect', scope: 'inference' } },
  'error-in-first-frame': { fault: { kind: 'stream-error', code: 500 } },
  // The others begin with text: there is no frame before it in which an error could follow.
  'error-after-the-first-frame': {
    fault: { kind: 'stream-error', code: 503, afterChunks: 1 },
    where: opensFirst,
  },
  'cut-at-once': { fault: { kind: 'cut', afterChunks: 0 } },
  'cut-in-first-frame': { fault: { kind: 'cut', afterChunks: 0, midFrame: true } },
  'ends-without-content': { fault: { kind: 'early-end', afterChunks: 0 }, where: streams },
  // Responses that are aborted before their first token call themselves cut by the tenant's limit.
  'aborts-at-shutdown': {
    fault: { kind: 'abort' },
    where: (row) => row.assembled && row.path !== '/v1/responses',
  },
  'aborts-streamed': {
    fault: { kind: 'abort' },
    where: (row) => streams(row) && !row.assembled,
    streamed: true,
  },
}

const pairOf = (pool: string): SimSpec[] =>
  ['good', 'bad'].map((name) => ({
    id: `${pool}-${name}`,
    pool,
    slots: 64,
    options: { profile: PROFILE },
  }))

const POOLS = [...Object.keys(FAULTS), 'own-fault', 'cut-later', 'late', 'nobody']

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
      pools: {
        hangs: { timeouts: { first_byte: '1200ms' } },
        'hangs-streamed': { timeouts: { first_byte: '1200ms' } },
        // Without a proxy on the way, an answer in one piece has until the request's own deadline.
        late: { timeouts: { first_byte: '1200ms', idle: '1200ms', total: '1200ms' } },
      },
    })
    for (const [pool, { fault }] of Object.entries(FAULTS)) await simsOf(pool)[1].setFault(fault)
  })
  afterAll(() => stack?.stop())

  /** Requests of every kind at once, so that the broken one is asked first by some of them. */
  const everyKind = (pool: string, { where = () => true, streamed }: Broken) =>
    Promise.all(
      ALL.filter(where).flatMap((row) =>
        (streams(row) ? [0, 1, 2, 3] : [0, 1]).map(async (seed) => {
          const stream = streams(row) && (streamed ?? seed % 2 === 0)
          const body = row.body(pool, `failover ${row.path}`, { stream, max_tokens: 12, seed })
          const expected = await ask(simsOf(pool)[0].url + row.path, { body })
          const got = await ask(stack.url + row.path, { headers: keyOf(stack), body })
          return { ...got, path: row.path, stream, expected: textIn(expected.text) }
        }),
      ),
    )

  it.concurrent.each(Object.entries(FAULTS))(
    '%s: one whole answer for all',
    async (pool, fault) => {
      const [good, bad] = simsOf(pool)
      const answers = await everyKind(pool, fault)
      for (const { path, status, text, stream, headers, expected, complete } of answers) {
        expect(expected).not.toBe('')
        const whole = stream ? isWhole(text) : status === 200
        expect({ path, stream, status, complete, whole }).toEqual({
          path,
          stream,
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
    },
  )

  it.concurrent('cut after content but not streamed yet: one whole answer for all', async () => {
    const pool = 'cut-later'
    const [good, bad] = simsOf(pool)
    await bad.setFault({ kind: 'cut', afterChunks: 9, midFrame: true })
    for (const row of ALL.filter(({ path }) => path !== '/v1/messages/count_tokens')) {
      const body = row.body(pool, 'late', { max_tokens: 12 })
      const expected = textIn((await ask(good.url + row.path, { body })).text)
      for (let i = 0; i < 3; i++) {
        const { status, text } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
        expect({ path: row.path, status, text: textIn(text) }).toEqual({
          path: row.path,
          status: 200,
          text: expected,
        })
      }
    }
    const cut = generating(bad).filter(({ outcome }) => outcome === 'cut')
    expect(new Set(cut.map(({ path }) => path)).size).toBe(ALL.length - 1)
  })

  it.concurrent('what was not streamed and came too late is not generated twice', async () => {
    const pool = 'late'
    for (const sim of simsOf(pool)) await sim.setFault({ kind: 'hang', scope: 'inference' })
    await Promise.all(
      ALL.filter(({ assembled }) => !assembled).map(async (row) => {
        const { status, headers } = await ask(stack.url + row.path, {
          headers: keyOf(stack),
          body: row.body(pool, 'late'),
        })
        expect({ path: row.path, status, attempts: headers['x-penstock-attempts'] }).toEqual({
          path: row.path,
          status: 504,
          attempts: '1',
        })
      }),
    )
  })

  it.concurrent.each(ALL)(
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
        expect({ stream, status, text }).toMatchObject({ stream, status: 400 })
        const message = 'The request could not be processed.'
        expect(JSON.parse(text)).toEqual(
          row.errors === 'anthropic'
            ? {
                type: 'error',
                error: { type: 'invalid_request_error', message },
                request_id: headers['x-request-id'],
              }
            : { error: { message, type: 'BadRequestError', param: null, code: 'invalid_value' } },
        )
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
