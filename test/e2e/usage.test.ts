/** Tokens as the pool adds them up, beside what the simulator itself has counted (L30). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus, TokenTotals } from '../../durable-objects/pool/contract.ts'
import type { Fault } from '../../scripts/sim/faults.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { eventsOf, generating, inFlight, keyOf, type Fields } from '../support/e2e-api.ts'
import { ask, open } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const FAST = { ttftBaseMs: 5, itlBaseMs: 3 }
/** So slow that between the last token that was read and the end of the request there is no other. */
const SLOW = { ttftBaseMs: 5, itlBaseMs: 400, itlMsPerRunning: 0 }

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'
const RESPONSES = '/v1/responses'
const ANTHROPIC = '/v1/messages'

const MESSAGES = [{ role: 'user', content: 'count on me' }]
const STREAM = { stream: true }
const ASKED = { stream_options: { include_usage: true } }

/** A request in an endpoint's own words. */
function bodyOf(path: string): Fields {
  switch (path) {
    case CHAT:
    case ANTHROPIC:
      return { messages: MESSAGES, max_tokens: 9 }
    case RESPONSES:
      return { input: 'count on me', max_output_tokens: 9 }
    case '/v1/embeddings':
      return { input: ['count on me', 'and on me'] }
    case '/v1/rerank':
      return { query: 'count', documents: ['on me', 'on you'] }
    case '/v1/score':
      return { text_1: 'count', text_2: 'on me' }
    default:
      return { prompt: 'count on me', max_tokens: 9 }
  }
}

interface Whole {
  readonly path: string
  readonly more: Fields
}

/** Requests that are answered to their end. Each is asked by both names, in a pool of its own. */
const WHOLES: readonly Whole[] = [
  ...[CHAT, COMPLETIONS].flatMap((path) => [
    { path, more: STREAM },
    { path, more: { ...STREAM, ...ASKED } },
    { path, more: { ...STREAM, ...ASKED, return_token_ids: true } },
    { path, more: { ...STREAM, n: 2 } },
    { path, more: {} },
    { path, more: { n: 2 } },
    { path, more: { ...STREAM, stop: ['e'] } },
  ]),
  {
    path: CHAT,
    more: { ...STREAM, chat_template_kwargs: { enable_thinking: true }, max_tokens: 40 },
  },
  { path: CHAT, more: { ...STREAM, tools: toolsOf(['one', 'two']), max_tokens: 200 } },
  { path: COMPLETIONS, more: { ...STREAM, prompt: ['one', 'and another'] } },
  { path: COMPLETIONS, more: { prompt: ['one', 'and another'], n: 2 } },
  { path: COMPLETIONS, more: { prompt: [5, 6, 7] } },
  { path: COMPLETIONS, more: { echo: true } },
  { path: COMPLETIONS, more: { ...STREAM, echo: true } },
  ...[RESPONSES, ANTHROPIC].flatMap((path) => [
    { path, more: STREAM },
    { path, more: {} },
  ]),
  ...['/v1/embeddings', '/v1/rerank', '/v1/score'].map((path) => ({ path, more: {} })),
]

function toolsOf(names: readonly string[]): object[] {
  const parameters = { type: 'object', properties: { place: { type: 'string' } } }
  return names.map((name) => ({ type: 'function', function: { name, parameters } }))
}

const poolOf = (index: number): string => `whole-${index}`

const BREAKS: Readonly<Record<string, Fault>> = {
  cut: { kind: 'cut', afterChunks: 6 },
  'cut-in-frame': { kind: 'cut', afterChunks: 6, midFrame: true },
  'ends-early': { kind: 'early-end', afterChunks: 6 },
  fails: { kind: 'stream-error', code: 500, afterChunks: 6 },
}

/** By the name that vLLM knows the stream is piped as it is, by another one it is edited. */
const NAMES = ['native', 'edited'] as const
const modelOf = (pool: string, name: (typeof NAMES)[number]): string =>
  name === 'native' ? pool : `${pool}-alias`

const LEAVING = [CHAT, COMPLETIONS]
const POOLS = [
  ...WHOLES.map((_, i) => poolOf(i)),
  ...Object.keys(BREAKS).flatMap((pool) => NAMES.map((name) => `${pool}-${name}`)),
  ...NAMES.flatMap((name) => LEAVING.map((_, i) => `left-${i}-${name}`)),
  ...NAMES.map((name) => `left-twice-${name}`),
  'left-in-prefill',
  'left-responses',
  'left-messages',
  'left-several',
  'cached',
  'retried',
]

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    nginxRenames: false, // by an alias, frame by frame
    sims: POOLS.flatMap((pool) => {
      const options = { kind: 'all', profile: FAST, promptTokensDetails: true } as const
      const own = { id: pool, pool, options }
      return pool === 'retried' ? [own, { ...own, id: 'retried-2' }] : [own]
    }),
    fleet: {
      defaults: { health: { every: '60s' } },
      models: Object.fromEntries(
        POOLS.map((pool) => [pool, { aliases: [`${pool}-alias`], arms: [{ pool }] }]),
      ),
    },
  })
  for (const [pool, sim] of Object.entries(stack.sims)) {
    sim.clearRequests() // of the readings before it was ready, one has generated a token
    if (pool.startsWith('left-')) sim.setProfile(SLOW)
    const fault = BREAKS[pool.replace(/-(?:native|edited)$/, '')]
    if (fault) await sim.setFault(fault)
  }
  await stack.sims['retried']!.setFault({ kind: 'status', status: 500 })
})
afterAll(() => stack?.stop())

const send = (path: string, body: Fields) => ask(stack.url + path, { headers: keyOf(stack), body })

const poolNow = async (pool: string): Promise<PoolStatus> => {
  const headers = { authorization: `Bearer ${stack.adminToken}` }
  return JSON.parse((await ask(`${stack.url}/admin/pools/${pool}`, { headers })).text) as PoolStatus
}

/** The pool's sums once every request has been given back, each exactly once. */
async function settled(pool: string, requests: number): Promise<TokenTotals> {
  const status = await eventually(
    () => poolNow(pool),
    (now) => inFlight(now) === 0 && now.granted === requests,
  )
  const ended = Object.values(status.ended).reduce((sum, count) => sum + count, 0)
  expect({ ended, lost: status.ended.lost }).toEqual({ ended: status.granted, lost: 0 })
  return status.tokens!
}

/** What a simulator has counted itself. */
const counted = (sim: Sim) => {
  const records = generating(sim)
  const sum = (of: 'promptTokens' | 'tokensGenerated' | 'cachedTokens' | 'tokensSent'): number =>
    records.reduce((total, record) => total + record[of], 0)
  return {
    prompt: sum('promptTokens'),
    generated: sum('tokensGenerated'),
    sent: sum('tokensSent'),
    cached: sum('cachedTokens'),
  }
}

describe('answers to their end', () => {
  const cases = WHOLES.map(({ path, more }, i) => ({ path, more, pool: poolOf(i) }))

  it.concurrent.each(cases)('$path $more', async ({ path, more, pool }) => {
    for (const name of NAMES) {
      const model = modelOf(pool, name)
      const { status, text } = await send(path, { ...bodyOf(path), ...more, model })
      expect({ status, text: status === 200 ? '' : text }).toEqual({ status: 200, text: '' })
    }
    const { prompt, completion, estimated } = await settled(pool, 2)
    const own = counted(stack.sims[pool]!)
    expect({ prompt, completion, estimated }).toEqual({
      prompt: own.prompt,
      completion: own.generated,
      estimated: 0,
    })
    expect(prompt).toBeGreaterThan(0)
  })

  it.concurrent('out of the prefix cache, as far as vLLM says', async () => {
    const long = [{ role: 'user', content: 'the same long beginning '.repeat(30) }]
    const body = { model: 'cached', messages: long, max_tokens: 3 }
    for (const more of [{ ...STREAM, ...ASKED }, {}, { ...STREAM, ...ASKED }]) {
      await send(CHAT, { ...body, ...more })
    }
    const { cached } = await settled('cached', 3)
    expect(cached).toBe(counted(stack.sims['cached']!).cached)
    expect(cached).toBeGreaterThan(0)
  })

  it.concurrent('of which another instance gave none', async () => {
    const { headers } = await send(CHAT, { ...bodyOf(CHAT), ...STREAM, model: 'retried' })
    expect(headers['x-penstock-attempts']).toBe('2')
    const { prompt, completion, estimated } = await settled('retried', 2)
    const own = counted(stack.sims['retried-2']!)
    expect({ prompt, completion, estimated }).toEqual({
      prompt: own.prompt,
      completion: 9,
      estimated: 0,
    })
  })
})

const frames = (text: string): number =>
  eventsOf(text).filter((data) => /"(?:content|text)":"[^"]/.test(data)).length

describe('answers that break off', () => {
  const cases = Object.keys(BREAKS).flatMap((kind) => NAMES.map((name) => ({ kind, name })))

  it.concurrent.each(cases)('$kind ($name): as many as were seen', async ({ kind, name }) => {
    const pool = `${kind}-${name}`
    const model = modelOf(pool, name)
    const body = { ...bodyOf(CHAT), ...STREAM, max_tokens: 40, model }
    const { text } = await send(CHAT, body)
    const { prompt, completion, estimated } = await settled(pool, 1)
    const own = counted(stack.sims[pool]!)
    expect({ prompt, estimated }).toEqual({ prompt: own.prompt, estimated: 0 })
    expect(completion).toBe(5) // six frames, the first of which is the role's
    expect(completion).toBe(own.sent)
    expect(completion).toBeGreaterThanOrEqual(frames(text))
  })
})

describe('answers that nobody waits for', () => {
  const cases = NAMES.flatMap((name) =>
    LEAVING.map((path, i) => ({ path, name, pool: `left-${i}-${name}` })),
  )

  it.concurrent.each(cases)('$path ($name): as many as were seen', async (one) => {
    const { path, name, pool } = one
    const body = { ...bodyOf(path), ...STREAM, max_tokens: 100, model: modelOf(pool, name) }
    const opened = await open(stack.url + path, { headers: keyOf(stack), body })
    await opened.until(/(?:"(?:content|text)":"[^"][^]*){3}/)
    opened.leave()
    const { prompt, completion, estimated } = await settled(pool, 1)
    const own = counted(stack.sims[pool]!)
    expect({ prompt, completion, estimated }).toEqual({
      prompt: own.prompt,
      completion: own.generated,
      estimated: 0,
    })
    expect(completion).toBeGreaterThanOrEqual(frames(opened.text))
    expect(completion).toBeLessThan(20)
  })

  it.concurrent.each(NAMES)('two choices of one (%s): both are counted', async (name) => {
    const pool = `left-twice-${name}`
    const body = { ...bodyOf(CHAT), ...STREAM, n: 2, max_tokens: 100, model: modelOf(pool, name) }
    const opened = await open(stack.url + CHAT, { headers: keyOf(stack), body })
    await opened.until(/(?:"content":"[^"][^]*){4}/)
    opened.leave('reset')
    const { prompt, completion, estimated } = await settled(pool, 1)
    const own = counted(stack.sims[pool]!)
    expect({ prompt, completion, estimated }).toEqual({
      prompt: own.prompt,
      completion: own.generated,
      estimated: 0,
    })
    expect(completion).toBeGreaterThanOrEqual(4)
  })

  it.concurrent('not even for the first word: the prompt, as an estimate', async () => {
    const sim = stack.sims['left-in-prefill']!
    sim.setProfile({ ttftBaseMs: 600_000 })
    const leaving = new AbortController()
    // A picture is no text, however long its base64 is (L38).
    const url = `data:image/png;base64,${'A'.repeat(1 << 20)}`
    const image = { type: 'image_url', image_url: { url } }
    const content = [{ type: 'text', text: 'what is this?' }, image]
    const messages = [{ role: 'user', content }]
    const body = { ...bodyOf(CHAT), ...STREAM, messages, model: 'left-in-prefill' }
    const { signal } = leaving
    open(stack.url + CHAT, { headers: keyOf(stack), body, signal }).catch(() => undefined)
    await eventually(
      () => generating(sim).length,
      (seen) => seen === 1,
    )
    leaving.abort()
    const { prompt, completion, estimated } = await settled('left-in-prefill', 1)
    expect({ prompt, completion }).toEqual({ prompt: 0, completion: 0 })
    expect(estimated).toBeGreaterThan(0)
    // The picture counts by the pool's own figure, 1000 unless the fleet says otherwise.
    expect(estimated).toBeLessThanOrEqual(counted(sim).prompt * 2 + 1_000)
  })

  it.concurrent.each([
    {
      path: RESPONSES,
      pool: 'left-responses',
      more: { max_output_tokens: 100 },
      frame: /response\.output_text\.delta/g,
    },
    { path: ANTHROPIC, pool: 'left-messages', more: { max_tokens: 100 }, frame: /"text_delta"/g },
    // Which of the prompts an id belongs to, nothing tells.
    {
      path: COMPLETIONS,
      pool: 'left-several',
      more: { max_tokens: 100, prompt: ['one', 'another'] },
      frame: /"text":"[^"]/g,
    },
  ])('$path ($pool): estimated, and apart', async ({ path, pool, more, frame }) => {
    const body = { ...bodyOf(path), ...STREAM, ...more, model: pool }
    const opened = await open(stack.url + path, { headers: keyOf(stack), body })
    await opened.until(new RegExp(`(?:${frame.source}[^]*){3}`))
    opened.leave()
    const { prompt, completion, estimated } = await settled(pool, 1)
    expect({ prompt, completion }).toEqual({ prompt: 0, completion: 0 })
    const own = counted(stack.sims[pool]!)
    // Not less than the tenant has got, and of the same order as what was done.
    expect(estimated).toBeGreaterThanOrEqual(opened.text.match(frame)!.length)
    expect(estimated).toBeLessThanOrEqual((own.prompt + own.generated) * 2)
  })
})
