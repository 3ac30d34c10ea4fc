/** A tenant who waits long for his stream is told early that it comes, and every end of it says what it is. */
import Anthropic, { APIError as AnthropicError } from '@anthropic-ai/sdk'
import { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Fault } from '../../scripts/sim/faults.ts'
import { simScript } from '../../scripts/sim/script.ts'
import { eventsOf, generating, inFlight, keyOf, onlyRequest, sdk } from '../support/e2e-api.ts'
import { ask, open, type Open } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

const SLOW = { ttftBaseMs: 700, itlBaseMs: 3, itlMsPerRunning: 0 }
const QUICK = { ttftBaseMs: 5, itlBaseMs: 3 }
const NEVER = { ttftBaseMs: 600_000 }
const EARLY = { early_commit: '150ms' }
const SHORT = { timeouts: { first_byte: '500ms' } }

const simOf = (id: string, profile: SimSpec['options'], pool = id): SimSpec => ({
  id,
  pool,
  slots: 32,
  options: { ...profile },
})

/** What the instances of these pools do. */
const FAULTS: Readonly<Record<string, Fault>> = {
  'first-hangs': { kind: 'hang', scope: 'inference' },
  'all-hang': { kind: 'hang', scope: 'inference' },
  'all-fail': { kind: 'status', status: 500, delayMs: 450 },
  'own-fault': { kind: 'status', status: 400, delayMs: 450 },
  breaks: { kind: 'cut', afterChunks: 9 },
}

const POOLS = [
  'slow',
  'quick',
  'never',
  'breaks',
  'takeover',
  'all-hang',
  'all-fail',
  'own-fault',
  'other',
]

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      simOf('slow', { profile: SLOW }),
      simOf('quick', { profile: QUICK }),
      simOf('never', { profile: QUICK }),
      simOf('breaks', { profile: SLOW }),
      simOf('first-hangs', { profile: QUICK, seed: 1 }, 'takeover'),
      simOf('second', { profile: QUICK, seed: 2 }, 'takeover'),
      simOf('all-hang', { profile: QUICK }),
      simOf('all-fail', { profile: QUICK }),
      simOf('own-fault', { profile: QUICK }),
      simOf('other', { profile: SLOW, seed: 2 }),
    ],
    pools: { takeover: SHORT, 'all-hang': SHORT },
    fleet: {
      defaults: { ...EARLY, health: { every: '60s' } },
      models: {
        ...Object.fromEntries(POOLS.map((pool) => [pool, { arms: [{ pool }] }])),
        'falls-back': { arms: [{ pool: 'all-hang' }], fallback: ['other'] },
      },
    },
  })
  stack.sims['never']!.setProfile(NEVER)
  for (const [id, fault] of Object.entries(FAULTS)) await stack.sims[id]!.setFault(fault)
})
afterAll(() => stack?.stop())

const TEXT = 'take your time'
const MESSAGES = [{ role: 'user' as const, content: TEXT }]
const TOKENS = 10

/** The endpoints that stream, the request each of them takes, and what its last event says. */
const ENDPOINTS = [
  {
    path: '/v1/chat/completions',
    body: { messages: MESSAGES, max_tokens: TOKENS },
    end: /\[DONE\]/,
  },
  { path: '/v1/completions', body: { prompt: TEXT, max_tokens: TOKENS }, end: /\[DONE\]/ },
  {
    path: '/v1/responses',
    body: { input: TEXT, max_output_tokens: TOKENS },
    end: /"response.completed"/,
  },
  { path: '/v1/messages', body: { messages: MESSAGES, max_tokens: TOKENS }, end: /"message_stop"/ },
] as const

type Row = (typeof ENDPOINTS)[number]
const [CHAT] = ENDPOINTS

const stream = (model: string, { path, body }: Row = CHAT): Promise<Open> =>
  open(stack.url + path, { headers: keyOf(stack), body: { ...body, model, stream: true } })

const script = (body: object, seed = 0): string =>
  simScript({ ...body }, { seed })[0]!
    .tokens.map(({ delta }) => delta)
    .join('')

/** The text of a stream in any of the four dialects. */
const textIn = (events: readonly string[]): string =>
  events
    .filter((data) => data !== '[DONE]')
    .map((data) => {
      const { type, delta, choices } = JSON.parse(data) as {
        type?: string
        delta?: string | { text?: string }
        choices?: [{ text?: string; delta?: { content?: string } }?]
      }
      if (type === 'response.output_text.delta') return delta as string
      if (type === 'content_block_delta') return (delta as { text?: string }).text ?? ''
      return choices?.[0]?.text ?? choices?.[0]?.delta?.content ?? ''
    })
    .join('')

/** Comments before the first event; every one of them a ping of exactly these bytes (L24). */
const PINGS = /^(?:: ping\n)+/
/** The last line: what the headers could not know. */
const RECEIPT = /\n\n: receipt (.*)\n$/

const receiptOf = (text: string): Record<string, unknown> => {
  const [, fields = ''] = RECEIPT.exec(text) ?? []
  return Object.fromEntries(
    [...fields.matchAll(/(\S+)=("(?:[^"\\]|\\.)*")/g)].map(([, name, value]) => [
      name!.replace('x-penstock-', ''),
      JSON.parse(value!) as unknown,
    ]),
  )
}

describe('a stream that is slow to begin', () => {
  it.concurrent.each(ENDPOINTS)('has its 200 before its content ($path, L23)', async (row) => {
    const sim = stack.sims['slow']!
    const opened = await stream('slow', row)
    const id = opened.headers['x-request-id']
    const record = generating(sim).find((one) => one.id === id)!
    expect(record.firstByteAt).toBeNull()
    expect(opened.status).toBe(200)
    expect(opened.headers['content-type']).toMatch(/^text\/event-stream/)
    expect(opened.text).not.toContain('data:')
    await opened.until(/: ping\n/)
    expect(record.firstByteAt).toBeNull()

    const { text, complete } = await opened.ended
    expect(complete).toBe(true)
    const [pings] = PINGS.exec(text)!
    expect(pings.length / ': ping\n'.length).toBeGreaterThanOrEqual(2)
    // Nothing of ours within the stream: one comment at its end, and that is all.
    const said = text.slice(pings.length)
    expect(said).toMatch(/^(?:data|event): /)
    expect(said.match(/^:/gm)).toHaveLength(1)
    expect(said).toMatch(RECEIPT)
    const events = eventsOf(text)
    expect(events.at(-1)).toMatch(row.end)
    expect(textIn(events)).toBe(script(row.body))
  })

  it.concurrent('is not told so when it is quick', async () => {
    for (const row of ENDPOINTS) {
      const { text } = await (await stream('quick', row)).ended
      expect(text).not.toMatch(/^:/m)
      expect(textIn(eventsOf(text))).toBe(script(row.body))
    }
  })

  it.concurrent('that is none has its status when it is over', async () => {
    for (const { path, body } of ENDPOINTS) {
      const received = await ask(stack.url + path, {
        headers: keyOf(stack),
        body: { ...body, model: 'slow' },
      })
      expect(received.status).toBe(200)
      expect(received.headers['content-type']).toMatch(/^application\/json/)
      expect(received.text).toMatch(/^\{/)
    }
    for (const [model, status] of [
      ['all-hang', 504],
      ['all-fail', 502],
      ['own-fault', 400],
    ] as const) {
      const received = await ask(stack.url + CHAT.path, {
        headers: keyOf(stack),
        body: { ...CHAT.body, model },
      })
      expect({ model, status: received.status }).toEqual({ model, status })
      expect(received.text).not.toContain(': ping')
    }
  })

  it('is taken over by another instance, and its last line says by whom', async () => {
    // The first request of a pool goes to its first instance.
    const opened = await stream('takeover')
    expect(opened.headers['x-penstock-instance']).toBe('first-hangs')
    const { text } = await opened.ended
    expect(text).toMatch(PINGS)
    const events = eventsOf(text)
    expect(events.at(-1)).toBe('[DONE]')
    expect(textIn(events)).toBe(script(CHAT.body, 2))
    expect(receiptOf(text)).toMatchObject({
      model: 'takeover',
      instance: 'second',
      attempts: '2',
      reason: 'least_inflight; first-hangs: timed-out',
    })
  })

  it.concurrent('is taken over by another model, and its last line says by which', async () => {
    const opened = await stream('falls-back')
    expect(opened.headers['x-penstock-model']).toBe('falls-back')
    const { text } = await opened.ended
    expect(textIn(eventsOf(text))).toBe(script(CHAT.body, 2))
    expect(receiptOf(text)).toMatchObject({
      model: 'other',
      pool: 'other',
      instance: 'other',
      attempts: '2',
      reason: 'least_inflight; all-hang: timed-out; falls-back: upstream_timeout',
    })
  })
})

/** An error at the end of a stream, in each endpoint's own shape. */
const errorOf = (path: string, type: string, code: string, message: unknown): object => {
  switch (path) {
    case '/v1/messages':
      return {
        type: 'error',
        error: { type: type === 'server_error' ? 'api_error' : 'invalid_request_error', message },
      }
    case '/v1/responses':
      return { type: 'error', code, message, error: { code, message, type } }
    default:
      return { error: { type, code, message, param: null } }
  }
}

describe('a stream that fails after its 200', () => {
  it.concurrent.each(
    ENDPOINTS.flatMap((row) => [
      {
        row,
        path: row.path,
        model: 'all-hang',
        type: 'server_error',
        code: 'upstream_timeout',
        says: /did not answer in time/,
      },
      {
        row,
        path: row.path,
        model: 'all-fail',
        type: 'server_error',
        code: 'upstream_failed',
        says: /The server had an error while processing your request/,
      },
      {
        row,
        path: row.path,
        model: 'own-fault',
        type: 'InternalServerError',
        code: 'invalid_value',
        says: /^The server had an error while processing your request/,
      },
    ]),
  )('$model: an error frame and no end mark ($path)', async (one) => {
    const { row, model, type, code, says } = one
    const opened = await stream(model, row)
    expect(opened.status).toBe(200)
    const { text, complete } = await opened.ended
    expect(complete).toBe(true)
    expect(text).toMatch(PINGS)
    const events = eventsOf(text)
    expect(events).toHaveLength(1)
    const message = expect.stringMatching(says) as string
    expect(JSON.parse(events[0]!)).toMatchObject(errorOf(row.path, type, code, message))
    expect(/^event: error\ndata: /m.test(text)).toBe(
      row.path === '/v1/messages' || row.path === '/v1/responses',
    )
    expect(receiptOf(text)).toMatchObject({ pool: model })
  })

  it.concurrent('later, in the middle of its content, does so as any other', async () => {
    const { text } = await (await stream('breaks')).ended
    const events = eventsOf(text)
    expect(JSON.parse(events.pop()!)).toMatchObject({ error: { code: 'upstream_failed' } })
    expect(script(CHAT.body).startsWith(textIn(events))).toBe(true)
    expect(text).not.toContain('[DONE]')
  })

  it.concurrent('is an error to the SDKs', async () => {
    for (const [model, code] of [
      ['all-hang', 'upstream_timeout'],
      ['own-fault', 'invalid_value'],
    ]) {
      const { path: _, body } = CHAT
      const failed = async () => {
        const chunks = await sdk(stack).chat.completions.create({
          ...body,
          model: model!,
          stream: true,
        })
        for await (const chunk of chunks) expect(chunk).toBeUndefined()
      }
      await expect(failed()).rejects.toBeInstanceOf(APIError)
      await expect(failed()).rejects.toMatchObject({ code })
    }
    const failed = async () => {
      for await (const event of anthropic().messages.stream({ ...MESSAGE, model: 'all-hang' })) {
        expect(event).toBeUndefined()
      }
    }
    await expect(failed()).rejects.toBeInstanceOf(AnthropicError)
    await expect(failed()).rejects.toThrow(/did not answer in time/)
  })
})

const MESSAGE = { messages: MESSAGES, max_tokens: TOKENS }
const anthropic = () =>
  new Anthropic({ baseURL: stack.url, apiKey: stack.apiKey, maxRetries: 0, timeout: 30_000 })

describe('the SDKs read a stream that begins with pings (L24)', () => {
  it.concurrent('openai: chat', async () => {
    const client = sdk(stack)
    const done = await client.chat.completions
      .stream({ ...CHAT.body, model: 'slow' })
      .finalChatCompletion()
    expect(done.choices[0]!.message.content).toBe(script(CHAT.body))
  })

  it.concurrent('openai: completions', async () => {
    let text = ''
    const body = { prompt: TEXT, max_tokens: TOKENS }
    const chunks = await sdk(stack).completions.create({ ...body, model: 'slow', stream: true })
    for await (const { choices } of chunks) text += choices[0]?.text ?? ''
    expect(text).toBe(script(body))
  })

  it.concurrent('openai: responses', async () => {
    const body = { input: TEXT, max_output_tokens: TOKENS }
    const done = await sdk(stack)
      .responses.stream({ ...body, model: 'slow' })
      .finalResponse()
    expect(done.output_text).toBe(script(body))
  })

  it.concurrent('anthropic: messages', async () => {
    const done = await anthropic()
      .messages.stream({ ...MESSAGE, model: 'slow' })
      .finalText()
    expect(done).toBe(script(MESSAGE))
  })
})

describe('a tenant who leaves while there is nothing but pings', () => {
  it.each(['close', 'reset'] as const)(
    'frees the instance (%s)',
    async (how) => {
      const sim = stack.sims['never']!
      sim.clearRequests()
      const before = (await stack.pool('never')).ended
      const opened = await stream('never')
      await opened.until(/(?:: ping\n){2}/)
      const record = await onlyRequest(sim)
      expect(record.socketClosedAt).toBeNull()
      opened.leave(how)
      await eventually(
        () => record.socketClosedAt,
        (closed) => closed !== null,
      )
      const { ended } = await eventually(
        () => stack.pool('never'),
        (status) => inFlight(status) === 0,
      )
      const leftNow: Partial<Record<Ending, number>> = { 'client-left': before['client-left'] + 1 }
      expect(ended).toMatchObject({ ...before, ...leftNow })
      await eventually(
        () => sim.state().running + sim.state().waiting,
        (count) => count === 0,
      )
    },
    15_000,
  )
})
