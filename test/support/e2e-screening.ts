/** A stack whose engines take everything, and what reached them of what was sent. */
import { afterAll, beforeAll, expect } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { generating, keyOf, type Fields } from './e2e-api.ts'
import { ask, type Received } from './e2e-http.ts'
import { startStack, type SimSpec, type Stack } from './stack.ts'

export const CHAT = '/v1/chat/completions'
export const MESSAGES = [{ role: 'user', content: 'let me in' }]
const FAST = { ttftBaseMs: 2, itlBaseMs: 1 }

export const ALL: SimSpec = {
  id: 'all',
  pool: 'all',
  slots: 64,
  options: { kind: 'all', profile: FAST },
}

export let stack: Stack
export let sim: Sim

/** Starts it for the tests of a file. */
export function withScreeningStack(): void {
  beforeAll(async () => {
    stack = await startStack({
      viaNginx: true,
      sims: [
        ALL,
        { id: 'strict', pool: 'strict', options: { profile: FAST } },
        { id: 'closed', pool: 'closed', options: { profile: FAST } },
      ],
      pools: {
        all: { media: { domains: ['media.example.com', '*.cdn.example.com'] } },
        strict: { limits: { n: 2, output_tokens: 100 } },
      },
      fleet: {
        defaults: { health: { every: '60s' } },
        models: Object.fromEntries(
          ['all', 'strict', 'closed'].map((pool) => [pool, { arms: [{ pool }] }]),
        ),
      },
    })
    sim = stack.sims['all']!
  })
  afterAll(() => stack?.stop())
}

/** A small request in an endpoint's own words. */
export const BODIES: Readonly<Record<string, Fields>> = {
  [CHAT]: { messages: MESSAGES, max_tokens: 2 },
  '/v1/completions': { prompt: 'x', max_tokens: 2 },
  '/v1/responses': { input: 'x', max_output_tokens: 2 },
  '/v1/messages': { messages: MESSAGES, max_tokens: 2 },
  '/v1/messages/count_tokens': { messages: MESSAGES },
  '/v1/embeddings': { input: 'x' },
  '/v1/rerank': { query: 'x', documents: ['y'] },
  '/v1/score': { text_1: 'x', text_2: 'y' },
}
export const PATHS = Object.keys(BODIES)

interface Sending {
  readonly model?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly key?: string
  readonly to?: Stack
}

export const send = (
  path: string,
  fields: Fields,
  { model = 'all', headers, to = stack, key = to.apiKey }: Sending = {},
) =>
  ask(to.url + path, {
    headers: {
      ...keyOf({ apiKey: key }),
      ...headers,
    },
    body: { ...BODIES[path], ...fields, model },
  })

/** What the instance got for it; undefined where it got nothing. */
export const gotten = ({ headers }: Received, at = sim) =>
  generating(at).find(({ id }) => id === headers['x-request-id'])

export const bodyAt = (received: Received, at = sim): Fields => {
  const record = gotten(received, at)
  expect({
    status: received.status,
    asked: record !== undefined,
    text: received.text,
  }).toMatchObject({ status: 200, asked: true })
  return record!.body as Fields
}

export const expectError = (
  received: Received,
  status: number,
  code: string,
  param: string | null,
) => {
  expect({ status: received.status, text: received.text }).toMatchObject({ status })
  expect(JSON.parse(received.text)).toMatchObject({
    error: { type: 'invalid_request_error', code, param },
  })
  return (JSON.parse(received.text) as { error: { message: string } }).error.message
}

export const PNG = 'data:image/png;base64,iVBORw0KGgo='
