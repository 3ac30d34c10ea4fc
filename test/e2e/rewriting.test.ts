/** What is changed on an answer's way, and that nothing else is: byte by byte beside the engine's own. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { eventsOf, keyOf } from '../support/e2e-api.ts'
import { ask, type Received } from '../support/e2e-http.ts'
import { sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack, type StackOptions } from '../support/stack.ts'

const SERVED = 'Served-Model'
const SCRIPTED = 'Scripted-Model'
/** Quotes and all: a name is text in JSON, and a `$` means something to a replacement. */
const ALIAS = 'gpt-4o:mini/latest'
const FAST = { ttftBaseMs: 5, itlBaseMs: 2 }

let stack: Stack
/** Its Nginx was set up before it could rename. */
let older: Stack
let scripted: Server
beforeAll(async () => {
  scripted = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => void scriptedAnswer(request.url ?? '', text, response))
  })
  await new Promise<void>((resolve) => scripted.listen(0, '127.0.0.1', resolve))
  const { port } = scripted.address() as AddressInfo
  const options: StackOptions = {
    viaNginx: true,
    sims: [
      { id: 'v1', pool: 'plain', options: { profile: FAST } },
      { id: 'v2', pool: 'once', options: { profile: FAST } },
    ],
    fleetYaml: stringify({
      sites: { lab: { origin: 'http://127.0.0.1:1', node_key: 'NODE_KEY' } },
      defaults: { health: { every: '60s' } },
      pools: {
        plain: { served_as: SERVED, instances: [{ id: 'v1', site: 'lab', port: 1, slots: 64 }] },
        once: {
          served_as: SERVED,
          reasoning_field: 'reasoning',
          instances: [{ id: 'v2', site: 'lab', port: 2, slots: 64 }],
        },
        scripted: {
          served_as: SCRIPTED,
          instances: [{ id: 'scripted', url: `http://127.0.0.1:${port}`, slots: 64 }],
        },
      },
      models: {
        [SERVED]: { aliases: [ALIAS], arms: [{ pool: 'plain' }], path: '/plain' },
        'once-only': { arms: [{ pool: 'once' }] },
        [SCRIPTED]: { aliases: ['scripted-alias'], arms: [{ pool: 'scripted' }] },
      },
    }),
  }
  stack = await startStack(options)
  older = await startStack({ ...options, nginxRenames: false })
})
afterAll(async () => {
  await stack?.stop()
  await older?.stop()
  scripted.closeAllConnections()
  await new Promise((resolve) => scripted.close(resolve))
})

const MESSAGES = [{ role: 'user', content: 'say something' }]
const OWN_IDS = { return_token_ids: true }
const ASKED = { stream_options: { include_usage: true } }

/** The endpoints that stream; what we ask of the engine beyond what the tenant asked. */
const ENDPOINTS = [
  {
    path: '/v1/chat/completions',
    body: { messages: MESSAGES, max_tokens: 12 },
    own: OWN_IDS,
  },
  {
    path: '/v1/completions',
    body: { prompt: 'say something', max_tokens: 12 },
    own: OWN_IDS,
  },
  {
    path: '/v1/responses',
    body: { input: 'say something', max_output_tokens: 12, metadata: { model: SERVED } },
    own: {},
  },
  {
    path: '/v1/messages',
    body: { messages: MESSAGES, max_tokens: 12 },
    own: {},
  },
] as const

const [CHAT, COMPLETIONS] = ENDPOINTS

const send = (model: string, path: string, body: object, at = stack): Promise<Received> =>
  ask(at.url + path, { headers: keyOf(at), body: { ...body, model } })

/** What the engine itself says to the same request, under the same id. */
const direct = async (got: Received, path: string, body: object, id = 'v1'): Promise<string> => {
  const headers = { 'x-request-id': String(got.headers['x-request-id']) }
  const sent = { ...body, model: SERVED }
  return (await ask(stack.sims[id]!.url + path, { headers, body: sent })).text
}

/** The second in which it was asked is all that may differ. */
const timeless = (text: string): string => text.replace(/("created(?:_at)?"):\d+/g, '$1:0')
const withoutIds = (text: string): string =>
  text.replace(/"((?:prompt_)?token_ids)":\[[\d,]*\]/g, '"$1":null')
/** Every name of the model, but not what the tenant calls so in a field of his own. */
const renamed = (text: string): string =>
  text
    .replaceAll(`"model":"${SERVED}"`, `"model":"${ALIAS}"`)
    .replaceAll(`"metadata":{"model":"${ALIAS}"}`, `"metadata":{"model":"${SERVED}"}`)

const events = (text: string): Record<string, unknown>[] =>
  eventsOf(text)
    .filter((data) => data !== '[DONE]')
    .map((data) => JSON.parse(data) as Record<string, unknown>)

const usages = (text: string) => events(text).filter(({ usage }) => (usage ?? null) !== null)

const named = (text: string): unknown[] => [
  ...new Set(
    (text.startsWith('{') ? [JSON.parse(text) as Record<string, unknown>] : events(text))
      .map(({ model, response, message }) => {
        const inner = (response ?? message) as { model?: unknown } | undefined
        return typeof model === 'string' ? model : inner?.model
      })
      .filter((name) => name !== undefined),
  ),
]

describe('a model asked for by the name that vLLM knows', () => {
  it.concurrent.each(ENDPOINTS)(
    'passes byte for byte ($path)',
    async ({ path, body, own: ours }) => {
      const got = await send(SERVED, path, { ...body, stream: true })
      const own = await direct(got, path, { ...body, ...ours, stream: true })
      // Of token ids those in the first frames are taken out, the others are not worth a look at each frame.
      expect(timeless(withoutIds(got.text))).toBe(timeless(withoutIds(own)))
      expect(got.text).not.toContain('"prompt_token_ids":[')
      expect(named(got.text)).toEqual([SERVED])
    },
  )

  it.concurrent.each([CHAT, COMPLETIONS])(
    'has every token id where it asked for them ($path)',
    async ({ path, body }) => {
      const asked = { ...body, ...OWN_IDS, ...ASKED, stream: true }
      const got = await send(SERVED, path, asked)
      expect(timeless(got.text)).toBe(timeless(await direct(got, path, asked)))
      expect(got.text).toContain('"prompt_token_ids":[')
    },
  )

  it.concurrent.each(ENDPOINTS)('has the same answer in one piece ($path)', async (row) => {
    const { path, body } = row
    for (const model of [SERVED, ALIAS]) {
      const got = await send(model, path, body)
      const own = JSON.parse(timeless(await direct(got, path, body))) as Record<string, unknown>
      const mine = JSON.parse(timeless(got.text)) as Record<string, unknown>
      expect(mine).toMatchObject({ model })
      expect(withoutReasoning(mine)).toEqual({ ...withoutReasoning(own), model })
    }
  })
})

/** A model that does not think says null, and so does its older name. */
const withoutReasoning = (answer: Record<string, unknown>): Record<string, unknown> =>
  JSON.parse(
    JSON.stringify(answer, (key, value: unknown) =>
      key === 'reasoning_content' ? undefined : value,
    ),
  ) as Record<string, unknown>

describe('a model asked for by another name', () => {
  it.concurrent.each([
    ...ENDPOINTS.map((row) => ({ ...row, by: "the site's Nginx", at: () => stack })),
    ...ENDPOINTS.map((row) => ({ ...row, by: 'the Worker', at: () => older })),
  ])(
    'is called so in each frame, by $by, and no other byte changes ($path)',
    async ({ path, body, own: ours, at, by }) => {
      const got = await send(ALIAS, path, { ...body, stream: true }, at())
      const own = await direct(got, path, { ...body, ...ours, stream: true })
      expect(timeless(withoutIds(got.text))).toBe(renamed(withoutIds(timeless(own))))
      expect(named(got.text)).toEqual([ALIAS])
      if (path !== '/v1/responses') expect(got.text).not.toContain(SERVED)
      // What Nginx has renamed is carried as it came, the tokens' ids in it.
      const natively = /"token_ids":\[/.test(got.text)
      expect(natively).toBe(ours === OWN_IDS && by === "the site's Nginx")
    },
  )

  it.concurrent('is called as it was asked for: by alias, by arm, by path', async () => {
    const { path, body } = CHAT
    for (const stream of [true, false]) {
      for (const [at, asked, shown] of [
        ['', ALIAS, ALIAS],
        ['', `${SERVED}@stable`, `${SERVED}@stable`],
        ['/plain', 'whatever', SERVED],
        ['/plain', ALIAS, ALIAS],
      ] as const) {
        const { text } = await send(asked, at + path, { ...body, stream })
        expect({ at, asked, named: named(text) }).toEqual({ at, asked, named: [shown] })
      }
    }
  })
})

describe('usage', () => {
  const rows = [SERVED, ALIAS].flatMap((model) =>
    [CHAT, COMPLETIONS].map((row) => ({ model, row, path: row.path })),
  )

  it.concurrent.each(rows)('is not told where nobody asked ($model, $path)', async (one) => {
    const { model, row } = one
    for (const asked of [
      {},
      { stream_options: null },
      { stream_options: {} },
      { stream_options: { include_usage: false } },
      // Of a usage that was not asked for, none on each chunk either: vLLM says so, too.
      { stream_options: { include_usage: false, continuous_usage_stats: true } },
      { stream_options: { continuous_usage_stats: true } },
    ]) {
      const got = await send(model, row.path, { ...row.body, ...asked, stream: true })
      expect({ status: got.status, asked, usages: usages(got.text).length }).toEqual({
        status: 200,
        asked,
        usages: 0,
      })
      expect(eventsOf(got.text).at(-1)).toBe('[DONE]')
      expect(events(got.text).filter(({ choices }) => (choices as []).length === 0)).toEqual([])
    }
  })

  it.concurrent.each(rows)(
    'is told once, last, where it was asked ($model, $path)',
    async (one) => {
      const { model, row } = one
      const got = await send(model, row.path, { ...row.body, ...ASKED, stream: true })
      expect(usages(got.text)).toMatchObject([{ choices: [], usage: { completion_tokens: 12 } }])
      expect(events(got.text).at(-1)).toHaveProperty('usage')
    },
  )

  it.concurrent.each(rows)(
    'is told on each chunk where that was asked ($model, $path)',
    async (one) => {
      const { model, row } = one
      const asked = { stream_options: { include_usage: true, continuous_usage_stats: true } }
      const got = await send(model, row.path, { ...row.body, ...asked, stream: true })
      const own = await direct(got, row.path, { ...row.body, ...asked, ...OWN_IDS, stream: true })
      const expected = withoutIds(timeless(own))
      expect(withoutIds(timeless(got.text))).toBe(model === ALIAS ? renamed(expected) : expected)
      expect(usages(got.text)).toHaveLength(events(got.text).length)
    },
  )
})

describe('what a model thinks (L41)', () => {
  const thinking = {
    ...CHAT.body,
    max_tokens: 40,
    chat_template_kwargs: { enable_thinking: true },
  }
  interface Thought {
    readonly reasoning?: string | null
    readonly reasoning_content?: string | null
  }
  const deltas = (text: string): Thought[] =>
    events(text).flatMap(({ choices }) =>
      (choices as { delta: Thought }[]).map(({ delta }) => delta),
    )

  it.concurrent.each([SERVED, ALIAS])('is told under both names, streamed (%s)', async (model) => {
    const got = await send(model, CHAT.path, { ...thinking, stream: true })
    const thoughts = deltas(got.text).filter(({ reasoning }) => (reasoning ?? '') !== '')
    expect(thoughts.length).toBeGreaterThan(5)
    for (const { reasoning, reasoning_content: old } of thoughts) expect(old).toBe(reasoning)
    // And apart from that nothing has changed.
    const own = await direct(got, CHAT.path, { ...thinking, ...OWN_IDS, stream: true })
    const one = got.text.replace(/,"reasoning_content":"(?:[^"\\]|\\.)*"/g, '')
    const parts = (text: string) =>
      events(withoutIds(timeless(text))).flatMap(({ choices }) => choices as object[])
    expect(parts(one)).toEqual(parts(own))
  })

  it.concurrent.each([SERVED, ALIAS])('is told under both names, whole (%s)', async (model) => {
    for (const more of [{}, { top_p: 0.5 }]) {
      const { text } = await send(model, CHAT.path, { ...thinking, ...more })
      const { choices } = JSON.parse(text) as { choices: [{ message: Thought }] }
      const { reasoning, reasoning_content: old } = choices[0].message
      expect(reasoning).toMatch(/\w{3}/)
      expect(old).toBe(reasoning)
    }
  })

  it.concurrent.each([true, false])(
    'is told under one name where the fleet says so (stream %s)',
    async (stream) => {
      const got = await send('once-only', CHAT.path, { ...thinking, stream })
      expect(got.text).toMatch(/"reasoning":"\w/)
      expect(got.text).not.toContain('reasoning_content')
    },
  )
})

/** A chunk as vLLM writes it. */
const chunk = (content: string, more: object = {}): string =>
  JSON.stringify({
    id: 'chatcmpl-scripted',
    object: 'chat.completion.chunk',
    created: 1_700_000_000,
    model: SCRIPTED,
    choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: null, ...more }],
  })

const LETTERS = 'Grüße, 世界 — 𝒳 👩‍👩‍👧‍👦 "quoted" back\\slash \u2028 $& $1 \\n data: [DONE]'
const framed = (datas: readonly string[], end = '\n\n'): string =>
  [...datas, '[DONE]'].map((data) => `data: ${data}${end}`).join('')
const STOP = chunk('', { finish_reason: 'stop' })

interface Script {
  readonly text: string
  /** Bytes of each write. */
  readonly piece: number
  /** What the tenant reads, where the engine's word is not it. */
  readonly joined: string
}

const LARGE = '世界ü'.repeat(130_000) // just over a mebibyte
const SCRIPTS: Readonly<Record<string, Script>> = {
  'a byte at a time': {
    text: framed([chunk(''), chunk(LETTERS), chunk(LETTERS), STOP]),
    piece: 1,
    joined: LETTERS + LETTERS,
  },
  'seven bytes at a time': {
    text: framed([chunk(''), ...Array.from({ length: 30 }, () => chunk(LETTERS)), STOP]),
    piece: 7,
    joined: LETTERS.repeat(30),
  },
  'lines ended by CR LF': {
    text: framed([chunk(''), chunk(LETTERS), chunk(LETTERS), STOP], '\r\n\r\n'),
    piece: 5,
    joined: LETTERS + LETTERS,
  },
  'comments between': {
    text: `: one\n\n${framed([chunk(''), chunk(LETTERS)]).replaceAll('\n\ndata', '\n\n: two\n\ndata')}`,
    piece: 11,
    joined: LETTERS,
  },
  'frames of a mebibyte': {
    text: framed([chunk(''), chunk(LARGE), chunk('and'), chunk(LARGE), STOP]),
    piece: 50_021,
    joined: `${LARGE}and${LARGE}`,
  },
  'all at once': {
    text: framed([chunk(''), chunk(LETTERS), chunk(LETTERS), STOP]),
    piece: 1 << 20,
    joined: LETTERS + LETTERS,
  },
}

/** An upstream that writes what a test says, cut where it says. */
async function scriptedAnswer(url: string, sent: string, response: ServerResponse): Promise<void> {
  const json = (value: object) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  if (url === '/v1/models') return void json({ data: [{ id: SCRIPTED }] })
  if (url === '/metrics') return void response.writeHead(404).end()
  if (url === '/health') return void response.writeHead(200).end()
  if (url === '/v1/completions') return void json({ choices: [{ text: 'x' }] })

  const { messages } = JSON.parse(sent) as { messages: [{ content: string }] }
  const { text, piece } = SCRIPTS[messages[0].content]!
  const bytes = Buffer.from(text)
  response.socket?.setNoDelay(true)
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
  for (let at = 0; at < bytes.length; at += piece) {
    response.write(bytes.subarray(at, at + piece))
    // So that most pieces are a read of their own at the other end.
    if (at % 64 < piece) await sleep(0)
  }
  response.end()
}

describe('frames, however the network cuts them', () => {
  const cases = Object.keys(SCRIPTS).flatMap((name) =>
    [SCRIPTED, 'scripted-alias'].map((model) => ({ name, model })),
  )

  it.concurrent.each(cases)('$name ($model)', async ({ name, model }) => {
    const { text, joined } = SCRIPTS[name]!
    const messages = [{ role: 'user', content: name }]
    const got = await send(model, CHAT.path, { messages, stream: true })
    expect({ status: got.status, complete: got.complete }).toEqual({ status: 200, complete: true })
    // Compared as a whole: the difference of two texts of this size helps nobody.
    expect(got.text === text.replaceAll(`"model":"${SCRIPTED}"`, `"model":"${model}"`)).toBe(true)
    const said = events(got.text)
      .map(({ choices }) => (choices as [{ delta: { content: string } }])[0].delta.content)
      .join('')
    expect(said === joined).toBe(true)
  })
})
