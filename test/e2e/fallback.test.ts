/** A model that cannot answer: another instance of it does, or a model it falls back to, or it says why not. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import { simScript } from '../../scripts/sim/script.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { eventsOf, generating, inFlight, isWhole, keyOf, textIn } from '../support/e2e-api.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

const FIRST_BYTE_MS = 800
const CHAT = '/v1/chat/completions'

interface Missed {
  /** What the only instance of the model does; null: nothing is wrong with it. */
  readonly fault: Fault | null
  /** Attempts in all, the fallback's own one included. */
  readonly attempts: number
  /** The receipt's word on the model that was asked for. */
  readonly says: RegExp
}

/** Each has a model and a pool of its own, so that all can be tried at once. */
const MISSES: Readonly<Record<string, Missed>> = {
  refuses: {
    fault: { kind: 'refuse' },
    attempts: 2,
    says: /upstream-failed; refuses: upstream_failed/,
  },
  hangs: {
    fault: { kind: 'hang', scope: 'inference' },
    attempts: 2,
    says: /hangs-1: timed-out; hangs: upstream_timeout/,
  },
  'error-500': {
    fault: { kind: 'status', status: 500 },
    attempts: 2,
    says: /error-500-1: upstream-failed; error-500: upstream_failed/,
  },
  'html-502': { fault: { kind: 'html', scope: 'inference' }, attempts: 2, says: /upstream_failed/ },
  'error-first': {
    fault: { kind: 'stream-error', code: 500 },
    attempts: 2,
    says: /upstream_failed/,
  },
  'error-after-role': {
    fault: { kind: 'stream-error', code: 503, afterChunks: 1 },
    attempts: 2,
    says: /upstream_failed/,
  },
  'cut-early': { fault: { kind: 'cut', afterChunks: 1 }, attempts: 2, says: /upstream_failed/ },
  'cut-in-role': {
    fault: { kind: 'cut', afterChunks: 0, midFrame: true },
    attempts: 2,
    says: /upstream_failed/,
  },
  aborts: { fault: { kind: 'abort' }, attempts: 2, says: /upstream_failed/ },
  down: { fault: { kind: 'refuse' }, attempts: 1, says: /; down: no_instance_ready$/ },
  busy: { fault: null, attempts: 1, says: /; busy: pool_busy$/ },
}

const FAST = { ttftBaseMs: 5, itlBaseMs: 3 }
/** Requests without a seed of their own: each model says something else. */
const SEEDS = { a: 1, b: 2, c: 3 }

const simOf = (id: string, pool: string, seed: number, more: Partial<SimSpec> = {}): SimSpec => ({
  id,
  pool,
  ...more,
  options: { seed, profile: FAST, kind: 'all', ...more.options },
})

/** Further pools of the kind of A, of one instance each. */
const OTHERS = ['own-400', 'too-long', 'cut-late', 'out', 'too-late', 'capped', 'unstreamed']
/** Their faults; both instances of `half` are well at first. */
const FAULTS: Readonly<Record<string, Fault>> = {
  'half-1': { kind: 'status', status: 500 },
  'own-400-1': { kind: 'stream-error', code: 400 },
  'cut-late-1': { kind: 'cut', afterChunks: 8 },
  'out-1': { kind: 'hang', scope: 'inference' },
  'out-b1': { kind: 'status', status: 500 },
  'out-c1': { kind: 'stream-error', code: 500 },
  'too-late-1': { kind: 'hang', scope: 'inference' },
  'slow-b1': { kind: 'hang', scope: 'inference' },
  'capped-1': { kind: 'status', status: 503 },
  'unstreamed-1': { kind: 'hang', scope: 'inference' },
}

let stack: Stack
beforeAll(async () => {
  const pools = [...Object.keys(MISSES), ...OTHERS]
  const modelOf = (pool: string, fallback: string[] = []) => ({ arms: [{ pool }], fallback })
  stack = await startStack({
    viaNginx: true,
    nginxRenames: false, // by an alias, frame by frame
    sims: [
      ...pools.map((pool) =>
        simOf(`${pool}-1`, pool, SEEDS.a, {
          ...(pool === 'busy' && { slots: 1 }),
          ...(pool === 'too-long' && { options: { maxModelLen: 200 } }),
        }),
      ),
      simOf('half-1', 'half', SEEDS.a),
      simOf('half-2', 'half', SEEDS.a),
      simOf('b1', 'b-pool', SEEDS.b, { slots: 64 }),
      simOf('c1', 'c-pool', SEEDS.c, { slots: 64 }),
      simOf('tiny-1', 'tiny', SEEDS.b),
      simOf('short-1', 'short', SEEDS.b),
      simOf('out-b1', 'out-b', SEEDS.b),
      simOf('out-c1', 'out-c', SEEDS.c),
      simOf('slow-b1', 'slow-b', SEEDS.b),
    ],
    pools: {
      'b-pool': { served_as: 'The-Second' },
      'c-pool': { served_as: 'The-Third' },
      tiny: { limits: { body: '1KiB' } },
      short: { limits: { output_tokens: 4 } },
      // No reading finds it out but where the test is about just that.
      down: { health: { every: '200ms', timeout: '190ms', down_after: 1 }, timeouts: LONG },
      busy: { timeouts: LONG },
      'too-late': { timeouts: { first_byte: '500ms', idle: '500ms', total: '1500ms' } },
      'slow-b': { timeouts: LONG },
    },
    fleet: {
      defaults: {
        health: { every: '60s' },
        timeouts: { first_byte: `${FIRST_BYTE_MS}ms` },
      },
      models: {
        ...Object.fromEntries(pools.map((pool) => [pool, modelOf(pool, ['b', 'c'])])),
        half: modelOf('half', ['b', 'c']),
        b: modelOf('b-pool'),
        c: modelOf('c-pool'),
        tiny: modelOf('tiny'),
        short: modelOf('short'),
        heavy: modelOf('capped', ['tiny', 'c']),
        wordy: modelOf('capped', ['short', 'c']),
        unsuited: modelOf('capped', ['own-400', 'c']),
        'unsuited-alone': modelOf('capped', ['own-400']),
        out: modelOf('out', ['out-b', 'out-c']),
        'out-b': modelOf('out-b'),
        'out-c': modelOf('out-c'),
        'too-late': modelOf('too-late', ['slow-b', 'c']),
        'slow-b': modelOf('slow-b'),
      },
    },
  })
  const faults = {
    ...Object.fromEntries(Object.entries(MISSES).map(([pool, { fault }]) => [`${pool}-1`, fault])),
    ...FAULTS,
  }
  for (const [id, fault] of Object.entries(faults)) await stack.sims[id]!.setFault(fault)
  stack.sims['busy-1']!.setProfile({ ttftBaseMs: 600_000 })
  const holder = open(stack.url + CHAT, {
    headers: keyOf(stack),
    body: { model: 'busy', messages: MESSAGES, stream: true },
  })
  holder.catch(() => undefined) // it ends with the stack
  await eventually(
    () => stack.pool('busy'),
    (status) => inFlight(status) === 1,
  )
  await eventually(
    () => stack.pool('down'),
    ({ instances }) => instances.every(({ state }) => state === 'down'),
  )
})
afterAll(() => stack?.stop())

const LONG = { first_byte: '30s', idle: '30s' }
const MESSAGES = [{ role: 'user', content: 'who are you?' }]

const chat = (model: string, stream: boolean, more: object = {}): Promise<Received> =>
  ask(stack.url + CHAT, {
    headers: keyOf(stack),
    body: { model, messages: MESSAGES, max_tokens: 12, stream, ...more },
  })

/** What a model of that seed says to the same request, token by token. */
const scriptOf = (seed: number, more: object = {}): string[] =>
  simScript({ messages: MESSAGES, max_tokens: 12, ...more }, { seed })[0]!.tokens.map(
    ({ delta }) => delta,
  )

/** Times that a simulator was asked for this very answer. */
const asked = (sim: Sim, { headers }: Received) =>
  generating(sim).filter(({ id }) => id === headers['x-request-id'])

const named = (text: string): unknown[] => {
  const parts = text.startsWith('{') ? [text] : eventsOf(text).filter((data) => data !== '[DONE]')
  return [...new Set(parts.map((json) => (JSON.parse(json) as { model: unknown }).model))]
}

/** One clean answer: whole, of that model alone, in its name. */
const expectAnswer = (got: Received, stream: boolean, model: string, said: readonly string[]) => {
  const { status, text, complete } = got
  expect({ status, complete, whole: stream ? isWhole(text) : true, text }).toMatchObject({
    status: 200,
    complete: true,
    whole: true,
  })
  expect(textIn(text)).toBe(said.join(''))
  expect(named(text)).toEqual([model])
  expect(text).not.toContain('error')
}

const BOTH = [true, false]

describe('a model that falls back', () => {
  it.concurrent.each(
    Object.keys(MISSES).flatMap((miss) => BOTH.map((stream) => ({ miss, stream }))),
  )('$miss (stream $stream): one clean answer of the next model', async ({ miss, stream }) => {
    const { attempts, says } = MISSES[miss]!
    const got = await chat(miss, stream)
    expectAnswer(got, stream, 'b', scriptOf(SEEDS.b))
    const { headers } = got
    expect(headers).toMatchObject({
      'x-penstock-model': 'b',
      'x-penstock-pool': 'b-pool',
      'x-penstock-instance': 'b1',
    })
    expect(headers['x-penstock-reason']).toMatch(/^least_inflight; /)
    expect(headers['x-penstock-reason']).toMatch(says)
    // A line that is refused is worth one more try at once; a proxy's word for it is not (L27).
    expect(Number(headers['x-penstock-attempts'])).toBe(attempts)
    expect(asked(stack.sims['b1']!, got)).toHaveLength(1)
    expect(asked(stack.sims['c1']!, got)).toHaveLength(0)
  })

  it.concurrent.each(['/v1/completions', '/v1/responses', '/v1/messages', '/v1/embeddings'])(
    'does so on %s as well',
    async (path) => {
      const said = path === '/v1/embeddings' ? { input: 'x' } : { max_tokens: 4 }
      const body = {
        model: 'error-500',
        ...said,
        ...(path === '/v1/completions' && { prompt: 'x' }),
        ...(path === '/v1/responses' && { input: 'x' }),
        ...(path === '/v1/messages' && { messages: MESSAGES }),
      }
      const got = await ask(stack.url + path, { headers: keyOf(stack), body })
      expect(got).toMatchObject({ status: 200, headers: { 'x-penstock-model': 'b' } })
      expect(named(got.text)).toEqual(['b'])
      expect(asked(stack.sims['b1']!, got)).toHaveLength(1)
    },
  )

  it.concurrent('at once where nobody is there, not when patience is over', async () => {
    const began = performance.now()
    expect((await chat('down', false)).status).toBe(200)
    expect(performance.now() - began).toBeLessThan(30_000 / 4) // of its first_byte
  })

  it.concurrent('not while another instance of it can answer', async () => {
    for (const stream of [true, false, true, false]) {
      const got = await chat('half', stream)
      expectAnswer(got, stream, 'half', scriptOf(SEEDS.a))
      expect(got.headers['x-penstock-instance']).toBe('half-2')
      for (const other of ['b1', 'c1']) expect(asked(stack.sims[other]!, got)).toHaveLength(0)
    }
    expect(generating(stack.sims['half-1']!).some(({ path }) => path === CHAT)).toBe(true)
  })

  it.concurrent.each(
    [
      { model: 'own-400', more: {}, message: 'The request could not be processed.' },
      {
        model: 'too-long',
        more: { messages: [{ role: 'user', content: 'word '.repeat(300) }] },
        message: 'maximum context length is 200 tokens',
      },
    ].flatMap((one) => BOTH.map((stream) => ({ ...one, stream }))),
  )("not for a 4xx, which is the tenant's ($model, stream $stream)", async (one) => {
    const got = await chat(one.model, one.stream, one.more)
    expect(got.status).toBe(400)
    expect(JSON.parse(got.text)).toMatchObject({
      error: { message: expect.stringContaining(one.message) as string },
    })
    expect(got.headers).toMatchObject({
      'x-penstock-model': one.model,
      'x-penstock-attempts': '1',
    })
    for (const other of ['b1', 'c1']) expect(asked(stack.sims[other]!, got)).toHaveLength(0)
  })

  it.concurrent('never after the first content: a beginning, and nothing twice (L26)', async () => {
    const got = await chat('cut-late', true, { max_tokens: 40 })
    const events = eventsOf(got.text)
    const error = JSON.parse(events.pop()!) as unknown
    expect(error).toMatchObject({ error: { code: 'upstream_failed' } })
    const tokens = events.map(
      (data) =>
        (JSON.parse(data) as { choices: [{ delta: { content: string } }] }).choices[0].delta
          .content,
    )
    expect(tokens).toHaveLength(8)
    expect(tokens).toEqual(['', ...scriptOf(SEEDS.a, { max_tokens: 40 }).slice(0, 7)])
    expect(got.headers['x-penstock-model']).toBe('cut-late')
    for (const other of ['b1', 'c1']) expect(asked(stack.sims[other]!, got)).toHaveLength(0)
  })

  it.concurrent('after a cut that nobody has seen anything of: the next one, whole', async () => {
    const got = await chat('cut-late', false, { max_tokens: 40 })
    expectAnswer(got, false, 'b', scriptOf(SEEDS.b, { max_tokens: 40 }))
  })

  it.concurrent.each(BOTH)(
    'all fail (stream %s): what the first one had to say',
    async (stream) => {
      const got = await chat('out', stream)
      expect(got.status).toBe(504)
      expect(JSON.parse(got.text)).toMatchObject({
        error: { code: 'upstream_timeout', param: null },
      })
      expect(got.headers['x-penstock-attempts']).toBe('3')
      expect(got.headers['x-penstock-reason']).toMatch(
        /out-1: timed-out; out: upstream_timeout; out-b1: upstream-failed; out-b: upstream_failed; out-c1: upstream-failed; out-c: upstream_failed/,
      )
    },
  )

  it.concurrent.each(BOTH)('one deadline holds for the whole chain (stream %s)', async (stream) => {
    const began = performance.now()
    const got = await chat('too-late', stream)
    // The second model's own first_byte is far beyond the first one's total.
    expect(performance.now() - began).toBeLessThan(30_000 / 4)
    expect(got.status).toBe(504)
    expect(JSON.parse(got.text)).toMatchObject({ error: { code: 'upstream_timeout' } })
    const second = asked(stack.sims['slow-b1']!, got)
    expect(second).toHaveLength(1)
    await eventually(
      () => second[0]!.socketClosedAt,
      (at) => at !== null,
    )
    expect(asked(stack.sims['c1']!, got)).toHaveLength(0)
  })

  it.concurrent('what was done unseen until it was too late is not done twice', async () => {
    const body = { model: 'unstreamed', prompt: 'x', echo: true, max_tokens: 4 }
    const got = await ask(`${stack.url}/v1/completions`, { headers: keyOf(stack), body })
    expect(got.status).toBe(504)
    expect(asked(stack.sims['b1']!, got)).toHaveLength(0)
  })

  it.concurrent.each([
    { model: 'heavy', says: /heavy: upstream_failed/, more: { user: 'u'.repeat(2_000) } },
    { model: 'wordy', says: /wordy: upstream_failed/, more: { max_tokens: 12 } },
  ])('passes over a model that does not take as much ($model)', async ({ model, says, more }) => {
    for (const stream of BOTH) {
      const got = await chat(model, stream, more)
      expectAnswer(got, stream, 'c', scriptOf(SEEDS.c, more))
      expect(got.headers['x-penstock-model']).toBe('c')
      expect(got.headers['x-penstock-reason']).toMatch(says)
      for (const other of ['tiny-1', 'short-1']) {
        expect(asked(stack.sims[other]!, got)).toHaveLength(0)
      }
    }
  })

  it.concurrent.each([
    { model: 'heavy', more: { max_tokens: 12 } },
    { model: 'wordy', more: { user: 'u'.repeat(2_000), max_tokens: 3 } },
  ])('and not over it where it does ($model)', async ({ model, more }) => {
    expectAnswer(await chat(model, true, more), true, model === 'heavy' ? 'tiny' : 'short', [
      ...scriptOf(SEEDS.b, more),
    ])
  })

  it.concurrent.each(BOTH)(
    "over the no of a model that nobody asked for, which is not the tenant's (stream %s)",
    async (stream) => {
      const got = await chat('unsuited', stream)
      expectAnswer(got, stream, 'c', scriptOf(SEEDS.c))
      expect(got.headers['x-penstock-reason']).toMatch(/own-400: invalid_value/)
      const alone = await chat('unsuited-alone', stream)
      expect(alone.status).toBe(502)
      expect(JSON.parse(alone.text)).toMatchObject({ error: { code: 'upstream_failed' } })
    },
  )

  it('leaves no lease behind', async () => {
    for (const { pool } of await stack.admin.pools()) {
      await eventually(
        () => stack.pool(pool),
        (status) => inFlight(status) === (pool === 'busy' ? 1 : 0),
      )
      expect((await stack.pool(pool)).ended.lost).toBe(0)
    }
  })
})
