import { describe, expect, it } from 'vitest'
import type { Json } from '../../worker/json.ts'
import { conversationFor } from '../../worker/routing/conversation.ts'
import type { Stickiness } from '../../durable-objects/fleet/snapshot.ts'
import { asked } from './core-asked.ts'
import { modelRoute, poolRoute } from './core-builders.ts'

const CHAT = '/v1/chat/completions'
const MESSAGES = '/v1/messages'
const RESPONSES = '/v1/responses'

interface Said {
  readonly path?: string
  readonly headers?: Record<string, string>
  readonly user?: string
  readonly tenant?: string
  readonly salt?: string
  readonly model?: string
  readonly sticky?: Stickiness
  readonly keepArmMs?: number
  readonly arms?: readonly string[]
}

/** What is told of a request's conversation where shares chose `stable`. */
function told(body: Json, said: Said = {}) {
  const { path = CHAT, headers = {}, salt = 'salt', model = 'qwen', ...more } = said
  const { keepArmMs = 600_000, sticky = 'tenant+user', arms = ['stable', 'canary'] } = more
  const { user = null, tenant = 'acme' } = more
  const member = asked({ body, headers, user, tenant })
  const keepable = arms.map((name) => ({
    arm: { name, pool: name, weight: 1 },
    pool: poolRoute({ pool: name }),
  }))
  return conversationFor(body, { path, salt, headers: new Headers(headers), member })({
    model: modelRoute({ name: model, sticky, keepArmMs }),
    arm: { name: 'stable', pool: 'stable', weight: 1 },
    keepable,
  })
}
const keyOf = (...said: Parameters<typeof told>) => told(...said)?.key

const user = (content: unknown) => ({ role: 'user', content })
const answer = (content: unknown) => ({ role: 'assistant', content })
const text = (it: string, more: object = {}) => ({ type: 'text', text: it, ...more })
const input = (it: string) => ({ type: 'input_text', text: it })
const PNG = (bytes: string) => ({
  type: 'image_url',
  image_url: { url: `data:image/png;base64,${bytes}` },
})

const USER = user('hi')

it.each([
  { path: CHAT, body: { messages: [USER, answer('hello'), USER] }, by: 'chat' },
  {
    path: CHAT,
    body: { messages: [USER, { ...answer(null), tool_calls: [{}] }, { role: 'tool' }] },
    by: 'a call of a tool',
  },
  { path: MESSAGES, body: { messages: [USER, answer([text('x')])] }, by: 'Anthropic’s messages' },
  { path: RESPONSES, body: { input: [USER, answer('x')] }, by: 'responses' },
  {
    path: RESPONSES,
    body: { input: [USER, { type: 'message', ...answer([]) }] },
    by: 'its output items',
  },
  {
    path: RESPONSES,
    body: { input: [USER, { type: 'function_call', call_id: 'c' }] },
    by: 'a function call',
  },
  {
    path: RESPONSES,
    body: { input: [USER, { type: 'function_call_output', call_id: 'c' }] },
    by: 'what it gave',
  },
  {
    path: RESPONSES,
    body: { input: [USER, { type: 'reasoning', summary: [] }] },
    by: 'a thought',
  },
])('a conversation is under way once the model has said something: $by', ({ path, body }) => {
  expect(told(body, { path })?.underWay).toBe(true)
})

it.each<[path: string, body: Json]>([
  [CHAT, { messages: [{ role: 'system', content: 'assistant' }, USER] }],
  [CHAT, { messages: [null, 'assistant', 7, { role: ['assistant'] }, USER] }],
  [CHAT, { messages: [USER], input: [answer('of another endpoint')] }],
  [RESPONSES, { input: 'assistant' }],
  [RESPONSES, { input: ['assistant', 'reasoning', USER] }],
  [RESPONSES, { input: [{ type: 'message', role: 'user', content: 'x' }] }],
  [RESPONSES, { input: [{ type: 7 }, USER] }],
])('and not before: %s %j', (path, body) => {
  expect(told(body, { path })?.underWay).toBe(false)
})

describe('what is told of a conversation', () => {
  it('is its arm, those that it may keep, for how long, and whether it is under way', () => {
    const first = told({ messages: [user('hi')] })
    expect(first).toEqual({
      key: expect.stringMatching(/^[0-9a-f]{16}$/) as string,
      arm: 'stable',
      mayKeep: ['stable', 'canary'],
      keepMs: 600_000,
      underWay: false,
      turn: { number: 1, said: expect.stringMatching(/^[0-9a-f]{16}$/) as string },
    })
    const second = told({ messages: [user('hi'), answer('hello'), user('more')] })
    expect(second).toMatchObject({ key: first!.key, underWay: true, turn: { number: 3 } })
    expect(second!.turn!.said).not.toBe(first!.turn!.said)
  })

  it('is how far it has come, by what was said last, unless it has a name', () => {
    const turn = (last: object, said: Said = {}) =>
      told({ messages: [user('hi'), answer('a'), last] }, said)?.turn
    expect(turn(user('x'))).toEqual(turn(user([text('x', { cache_control: {} })])))
    expect(turn(user('x'))?.said).not.toBe(turn(user('y'))?.said)
    const tool = (content: string) => ({ role: 'tool', tool_call_id: 'c', content })
    expect(turn(tool('x'))?.said).not.toBe(turn(tool('y'))?.said)
    expect(turn(user('x'), { headers: { 'x-session-id': 's' } })).toBeNull()
    const output = (it: string) => ({ type: 'function_call_output', call_id: 'c', output: it })
    const given = (it: string) => told({ input: [user('hi'), output(it)] }, { path: RESPONSES })
    expect(given('x')?.turn?.said).not.toBe(given('y')?.turn?.said)
    expect(given('x')?.turn?.said).not.toContain('x')
  })

  it.each([
    {
      path: CHAT,
      of: 'a chat, system prompt or not, changed or not',
      turns: [
        { messages: [user('hi')] },
        { messages: [{ role: 'system', content: 'S' }, user('hi'), answer('a'), user('b')] },
        { messages: [{ role: 'system', content: 'S 2' }, user([text('hi')]), answer('a')] },
      ],
    },
    {
      path: MESSAGES,
      of: 'messages, marked for a cache or not',
      turns: [
        { system: 'S', messages: [user('hi')] },
        { messages: [user([text('hi', { cache_control: { type: 'ephemeral' } })]), answer('a')] },
      ],
    },
    {
      path: RESPONSES,
      of: 'responses, in a text or in items',
      turns: [
        { input: 'hi', instructions: 'S' },
        { input: [user('hi'), { type: 'reasoning' }, answer('a'), user('b')] },
        { input: [{ type: 'message', id: 'x', ...user([input('hi')]) }, answer('a')] },
      ],
    },
    {
      path: CHAT,
      of: 'one that begins with a picture',
      turns: [
        { messages: [user([PNG('AAAA'), text('what?')])] },
        { messages: [user([PNG('AAAA'), text('what?')]), answer('a'), user('b')] },
      ],
    },
  ])('is the same from turn to turn: of $of', ({ path, turns }) => {
    expect(new Set(turns.map((body) => keyOf(body, { path }))).size).toBe(1)
    expect(keyOf(turns[0]!, { path })).toBeTypeOf('string')
  })

  it('is another one where it begins otherwise, or is somebody else’s', () => {
    const body = { messages: [user('hi')] }
    const long = 'x'.repeat(4_000)
    const keys = [
      keyOf(body),
      keyOf({ messages: [user('ho')] }),
      keyOf({ messages: [user(`${long}a`)] }),
      keyOf({ messages: [user(`${long}b`)] }),
      keyOf({ messages: [user([PNG('AAAA')])] }),
      keyOf({ messages: [user([PNG('AAAB')])] }),
      keyOf(body, { user: 'u' }),
      keyOf(body, { tenant: 'other' }),
      keyOf(body, { model: 'small' }),
      keyOf(body, { salt: 'another' }),
      keyOf({ ...body, prompt_cache_key: 'k' }),
      keyOf(body, { headers: { 'x-session-id': 's' } }),
      keyOf(body, { headers: { 'x-session-id': 't' } }),
    ]
    expect(new Set(keys).size).toBe(keys.length)
  })

  it('is by its session where that is named, however it goes on', () => {
    const headers = { 'x-session-id': 's' }
    const cut = { messages: [answer('a'), user('the first turns were left out')] }
    expect(keyOf(cut, { headers })).toBe(keyOf({ messages: [user('hi')] }, { headers }))
  })

  it('is by its cohort as well: who goes by another share is never taken for the same', () => {
    const headers = { 'x-session-id': 's' }
    const body = { messages: [user('hi')] }
    const [u, v] = ['u', 'v'].map((name) => ({ headers, user: name }))
    expect(keyOf(body, u)).not.toBe(keyOf(body, v))
    expect(keyOf(body, { ...u, sticky: 'tenant' })).toBe(keyOf(body, { ...v, sticky: 'tenant' }))
  })

  it('has nothing in it of what was said', () => {
    const body = { messages: [user('secret words')] }
    expect(JSON.stringify(told(body))).not.toMatch(/secret|words/)
  })

  it.each<{ body: Json; said?: Said; why: string }>([
    { body: { messages: [user('hi')] }, said: { arms: [] }, why: 'no share has decided' },
    { body: { messages: [user('hi')] }, said: { keepArmMs: 0 }, why: 'the model keeps nobody' },
    { body: { prompt: 'hi' }, said: { path: '/v1/completions' }, why: 'completions have none' },
    { body: { input: 'hi' }, said: { path: '/v1/embeddings' }, why: 'embeddings have none' },
    { body: { messages: [{ role: 'system', content: 'S' }] }, why: 'nobody has said anything' },
    { body: { messages: [user('')] }, why: 'nothing was said' },
    { body: { messages: [user({ toString: 1 })] }, why: 'what was said is none of the API' },
    { body: {}, why: 'there is nothing at all' },
  ])('is nothing where $why', ({ body, said = {} }) => {
    expect(told(body, said)).toBeNull()
  })

  it('takes whatever stands in a body', () => {
    const odd = { prompt_cache_key: { toString: 1 }, messages: [7, null, user([null, [[]], 'hi'])] }
    expect(keyOf(odd)).toBe(keyOf({ messages: [user('hi')] }))
  })
})
