import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelStatus, Rollout } from '../../durable-objects/fleet/contract.ts'
import { rolloutSentence } from '../../scripts/cli/models.ts'
import { hostPenstock, REQUEST_ID, type PenstockHost, type Ran } from '../support/e2e-cli.ts'

// The CLI starts once, in a Node of its own; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 30_000 })

const rollout = (named: Partial<Rollout> = {}): Rollout => ({
  model: 'qwen',
  arm: 'canary',
  state: 'running',
  share: 5,
  steps: [1, 5, 25],
  everyMs: 600_000,
  nextAt: 240_000,
  since: 0,
  by: 'ann',
  why: null,
  ...named,
})

const guardedAt = (since: number) =>
  rollout({ state: 'guarded', share: 0, nextAt: null, since, by: 'guard', why: 'errors 12.0 %' })

const model = (held: Rollout): ModelStatus => ({
  model: 'qwen',
  guard: null,
  shadow: { pool: 's', share: 0.1, figures: null },
  arms: [
    {
      name: 'stable',
      pool: 'p',
      weight: 100,
      share: 100,
      fileWeight: 90,
      rollout: null,
      figures: {
        requests: 2_850,
        failed: 11,
        truncated: 1,
        empty: 0,
        lost: 0,
        ttftP50: 312.4,
        ttftP95: 1_204,
        interTokenP95: 21.6,
      },
    },
    {
      name: 'canary',
      pool: 'q',
      weight: 0,
      share: 0,
      fileWeight: 10,
      rollout: held,
      figures: null,
    },
  ],
  changes: [{ at: 0, arm: 'canary', event: 'guard', share: 0, by: 'guard', why: 'errors 12.0 %' }],
})

interface Asked {
  readonly line: string
  readonly body: string
}
let asked: Asked[] = []
/** By method and path. */
let answers: Record<string, readonly [status: number, body: unknown]> = {}
const router = createServer((request, response) => {
  void (async () => {
    const line = `${request.method} ${request.url}`
    asked.push({ line, body: await text(request) })
    const [status, body] = answers[line] ?? [
      404,
      { error: { message: 'no such thing', code: 'x' } },
    ]
    response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': REQUEST_ID })
    response.end(JSON.stringify(body))
  })()
})
let url = ''
let host: PenstockHost
beforeAll(async () => {
  router.listen(0, '127.0.0.1')
  await once(router, 'listening')
  url = `http://127.0.0.1:${(router.address() as AddressInfo).port}`
  host = hostPenstock(tmpdir())
})
afterAll(() => {
  host.stop()
  router.closeAllConnections()
  router.close()
})
beforeEach(() => {
  asked = []
  answers = {}
})

const penstock = (...args: string[]): Promise<Ran> =>
  host.run(args, { PENSTOCK_URL: url, PENSTOCK_ADMIN_TOKEN: 'op' })
const bodies = () => asked.map(({ body }) => JSON.parse(body) as unknown)

describe('penstock rollout', () => {
  const POST = 'POST /admin/models/qwen/arms/canary/rollout'

  it('starts a rollout by its shares', async () => {
    answers = { [POST]: [200, { rollout: rollout({ nextAt: Date.now() + 240_400 }) }] }
    const run = await penstock(
      'rollout',
      'qwen',
      'canary',
      '1%',
      '5',
      '12.5%',
      '--every',
      '15m',
      '--message',
      'v2',
    )
    expect(run).toEqual({
      exit: 0,
      out: 'qwen: canary is at 5 %; 25 % comes in 4 min\n',
      err: '',
    })
    expect(bodies()).toEqual([
      { order: 'start', steps: [1, 5, 12.5], every_ms: 900_000, message: 'v2' },
    ])
  })

  it.each(['pause', 'resume', 'abort', 'end'])(
    '%s is one word, for a name of any kind',
    async (word) => {
      const path = 'POST /admin/models/org%2Fmodel%3Atag/arms/canary/rollout'
      answers = { [path]: [200, { rollout: null }] }
      expect(await penstock('rollout', 'org/model:tag', 'canary', word, '--json')).toEqual({
        exit: 0,
        out: '{\n  "rollout": null\n}\n',
        err: '',
      })
      expect(bodies()).toEqual([{ order: word }])
    },
  )

  it.each([
    [['canary'], 'give its shares'],
    [['canary', '105%'], '105% is no share'],
    [['canary', 'half'], 'half is no share'],
    [['canary', 'pause', '5%'], 'pause stands alone'],
    [['canary', 'pause', '--every', '5m'], '--every goes with shares'],
    [['canary', '5%', '--every', '5'], '--every: a duration needs its unit'],
  ])('does not understand %j', async (words, why) => {
    const { exit, err } = await penstock('rollout', 'qwen', ...words)
    expect([exit, asked]).toEqual([1, []])
    expect(err).toContain(why)
  })

  it.each([
    [400, 1],
    [404, 1],
    [412, 3],
    [503, 5],
  ])('exits as the router refuses: %d is %d', async (status, exit) => {
    answers = { [POST]: [status, { error: { message: 'No.', code: 'x' } }] }
    expect(await penstock('rollout', 'qwen', 'canary', 'pause')).toMatchObject({
      exit,
      err: 'error: No.\n',
    })
  })

  it('shows every arm with its share, state and figures', async () => {
    answers = { 'GET /admin/models': [200, { models: [model(guardedAt(Date.now() - 180_200))] }] }
    expect((await penstock('rollout')).out).toBe(
      [
        'model  arm     share  file  state    requests  failed  cut  empty  TTFT p50     p95  token p95',
        'qwen   stable  100 %    90  -           2,850      11    1      0    312 ms  1.20 s      22 ms',
        'qwen   canary    0 %    10  guarded         -       -    -      -         -       -          -',
        'qwen   shadow   10 %     -  copies          -       -    -      -         -       -          -',
        'qwen: canary stays at 0 %: its guard turned it off 3 min ago: errors 12.0 %',
        '',
      ].join('\n'),
    )
  })

  it('shows one model with what has changed', async () => {
    answers = { 'GET /admin/models/qwen': [200, model(guardedAt(0))] }
    const { exit, out } = await penstock('rollout', 'qwen')
    expect(exit).toBe(0)
    expect(out).toMatch(/^1970-01-01T00:00:00Z +canary +guard +0 % +guard +errors 12\.0 %$/m)
  })
})

describe('what holds on top of the file', () => {
  const held = { models: [model(guardedAt(0))] }

  it('stands below the status', async () => {
    answers = {
      'GET /admin/pools': [200, { pools: [] }],
      'GET /admin/models': [200, held],
    }
    expect((await penstock('status')).out).toContain('qwen: canary stays at 0 %: its guard turned')
  })

  it('is not missed by a status of a router that cannot say', async () => {
    answers = { 'GET /admin/pools': [200, { pools: [] }] }
    expect(await penstock('status')).toMatchObject({ exit: 0, err: '' })
  })

  it('is told after an apply, and what that has ended', async () => {
    const file = fileURLToPath(new URL('../../fleet.example.yaml', import.meta.url))
    const ended = [{ model: 'qwen', arm: 'blue' }]
    answers = {
      'GET /admin/fleet': [404, { error: { message: '', code: 'fleet_not_found' } }],
      'PUT /admin/fleet': [200, { version: 1, changed: true, pools: [], ended }],
      'GET /admin/models': [200, held],
    }
    const { exit, out } = await penstock('apply', file)
    expect(exit).toBe(0)
    expect(out).toMatch(
      /applied as version 1\nqwen: the rollout of blue has ended, .*\nqwen: canary stays at 0 %/,
    )
  })
})

describe('a sentence about a rollout', () => {
  it.each([
    [rollout(), 'qwen: canary is at 5 %; 25 % comes in 3 min'],
    [rollout({ state: 'paused' }), 'qwen: canary stays at 5 %: paused by ann 60 s ago'],
    [
      rollout({ state: 'done', share: 0.5 }),
      'qwen: canary stays at 0.5 %: it reached its last step 60 s ago',
    ],
    [
      rollout({ state: 'aborted', share: 0, by: null, why: 'slow' }),
      'qwen: canary stays at 0 %: aborted by somebody 60 s ago: slow',
    ],
    [
      guardedAt(-3_600_000 * 3),
      'qwen: canary stays at 0 %: its guard turned it off 3 h ago: errors 12.0 %',
    ],
  ])('says it all', (held, sentence) => {
    expect(rolloutSentence(held, 60_000)).toBe(sentence)
  })
})
