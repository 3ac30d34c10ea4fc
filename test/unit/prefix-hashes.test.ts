import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HASH_BYTES, MAX_BLOCKS, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import type { Json } from '../../worker/json.ts'
import { prefixHashes, type PrefixScope } from '../../worker/routing/prefix.ts'

const CHAT = '/v1/chat/completions'
const MESSAGES = '/v1/messages'
const scope = { path: CHAT, model: 'Qwen-14B-Chat', salt: 'salt of acme' }

const hashes = (body: Json, more: Partial<PrefixScope> = {}): string[] => {
  const bytes = Buffer.from(prefixHashes(body, { ...scope, ...more }))
  return Array.from({ length: bytes.length / HASH_BYTES }, (_, i) =>
    bytes.toString('hex', i * HASH_BYTES, (i + 1) * HASH_BYTES),
  )
}

/** Blocks that two prompts have in common. */
const common = (a: readonly string[], b: readonly string[]): number => {
  const fork = a.findIndex((hash, i) => hash !== b[i])
  return fork === -1 ? a.length : fork
}

/** English of about so many tokens; no two seeds alike. */
const prose = (tokens: number, seed = 'the '): string =>
  Array.from({ length: tokens * 4 }, (_, i) => seed[(i * i + (i >> 3)) % seed.length]).join('')

const user = (content: unknown) => ({ role: 'user', content })
const assistant = (content: unknown) => ({ role: 'assistant', content })
const completion = (prompt: unknown) => hashes({ prompt }, { path: '/v1/completions' })

it.each([{ toString: 1 }, [{ toString: 1 }], null, 7])(
  'are made of whatever stands in place of a role or a type: %j',
  (odd) => {
    const turns = [{ role: odd, content: [{ type: odd, text: prose(200) }] }, { type: odd }]
    expect(hashes({ messages: turns }).length).toBeGreaterThan(0)
  },
)

describe('the blocks of a prompt', () => {
  it('are as many as are whole, for short prompts and for long ones', () => {
    expect(completion(prose(63))).toHaveLength(0)
    expect(completion(prose(64))).toHaveLength(1)
    expect(completion(prose(1_600))).toHaveLength(16)
    expect(completion(prose(30_000))).toHaveLength(46)
    expect(tokensThrough(46)).toBeGreaterThan(27_000)
  })

  it('are never more than 64, and what lies behind them makes no difference', () => {
    const long = prose(140_000)
    expect(completion(long)).toHaveLength(MAX_BLOCKS)
    expect(completion(`${long} and more`)).toEqual(completion(long))
  })

  it('count bytes, so that Chinese has as many tokens as it has', () => {
    expect(completion('渡'.repeat(85))).toHaveLength(0)
    expect(completion('渡'.repeat(86))).toHaveLength(1)
    expect(completion('é'.repeat(127))).toHaveLength(0)
    expect(completion('é'.repeat(128))).toHaveLength(1)
    expect(completion('🌉'.repeat(63))).toHaveLength(0)
    expect(completion('🌉'.repeat(64))).toHaveLength(1)
  })

  it('have hashes that differ in both halves', () => {
    const all = Array.from(
      { length: 20_000 },
      (_, i) => completion(`${prose(62)}${i + 100_000}, …`)[0],
    )
    expect(new Set(all).size).toBe(all.length)
    for (const half of [0, 8]) {
      const seen = new Set(all.map((hash) => hash?.slice(half, half + 8)))
      expect(seen.size).toBeGreaterThan(all.length - 3)
    }
  })
})

describe('what a cache can share', () => {
  const body = { messages: [user(prose(200))] }

  it.each([
    { other: { salt: 'salt of another tenant' }, why: 'another tenant has a salt of its own' },
    { other: { model: 'an-adapter' }, why: 'an adapter computes other values' },
  ])('is nothing where $why', ({ other }) => {
    expect(common(hashes(body), hashes(body, other))).toBe(0)
  })

  it('keeps a name and a salt apart, wherever one ends', () => {
    const one = hashes(body, { model: 'aa', salt: '' })
    expect(common(one, hashes(body, { model: 'a', salt: 'a' }))).toBe(0)
  })

  it('does not depend on the name the tenant asked for, nor on how it wants the answer', () => {
    const other = { ...body, model: 'gpt-4o-mini', stream: true, temperature: 1, user: 'u', n: 2 }
    expect(hashes(other)).toEqual(hashes(body))
  })

  it.each(['/v1/embeddings', '/v1/rerank', '/v1/messages/count_tokens'])(
    'is nothing at %s',
    (path) => {
      expect(hashes({ ...body, input: prose(200) }, { path })).toEqual([])
    },
  )

  it.each([
    {},
    { messages: null },
    { messages: [null, 1, 'text', {}] },
    { messages: [{ role: 1, content: { a: 1 } }], tools: 'x' },
    { prompt: [null] },
    { prompt: {} },
    { input: 3, system: 4 },
  ])('is nothing in %j, which is for vLLM to refuse', (odd) => {
    for (const path of [CHAT, MESSAGES, '/v1/completions', '/v1/responses']) {
      expect(hashes(odd, { path })).toEqual([])
    }
  })
})

describe('a conversation', () => {
  const text = fc.string({ maxLength: 3_000, unit: fc.constantFrom('a', ' ', 'é', '渡', '🌉') })
  const content = fc.oneof(text, fc.array(text.map((said) => ({ type: 'text', text: said }))))
  const turn = fc.oneof(
    fc.record({ role: fc.constantFrom('user', 'assistant', 'system'), content }),
    fc.record({
      role: fc.constant('assistant'),
      content: fc.constant(null),
      tool_calls: fc.array(
        fc.record({ id: fc.string(), function: fc.record({ name: fc.string(), arguments: text }) }),
      ),
    }),
  )

  it('begins with the hashes of each of its earlier turns', () => {
    fc.assert(
      fc.property(
        fc.array(turn, { maxLength: 8 }),
        fc.array(turn, { maxLength: 4 }),
        (said, next) => {
          const before = hashes({ messages: said })
          const after = hashes({ messages: [...said, ...next] })
          expect(after.slice(0, before.length)).toEqual(before)
        },
      ),
    )
  })

  it('begins alike as a prompt that grows', () => {
    fc.assert(
      fc.property(text, text, (said, next) => {
        const before = completion(said)
        expect(completion(said + next).slice(0, before.length)).toEqual(before)
      }),
    )
  })

  it('differs from the first change on, and not before', () => {
    fc.assert(
      fc.property(fc.nat({ max: 3_999 }), (at) => {
        const before = prose(1_000, 'abcdef g')
        const after = `${before.slice(0, at)}X${before.slice(at + 1)}`
        const blocks = completion(before)
        const same = common(blocks, completion(after))
        expect(tokensThrough(same) * 4).toBeLessThanOrEqual(at)
        expect(tokensThrough(same + 1) * 4).toBeGreaterThan(at)
      }),
    )
  })

  it.each([
    { other: [user('b'), user('a'), user(prose(100))], why: 'another order' },
    { other: [user('a'), assistant('b'), user(prose(100))], why: 'another role' },
    { other: [user('ab'), user(''), user(prose(100))], why: 'the same text cut elsewhere' },
    { other: [user('ab'), user(prose(100))], why: 'two turns in one' },
  ])('differs where there is $why', ({ other }) => {
    expect(
      common(
        hashes({ messages: [user('a'), user('b'), user(prose(100))] }),
        hashes({ messages: other }),
      ),
    ).toBe(0)
  })

  it.each([
    {
      other: [user([{ type: 'text', text: 'Hi', cache_control: { type: 'ephemeral' } }])],
      why: 'a part is marked for a cache, as clients do to the latest turn only',
    },
    { other: [{ ...user('Hi'), id: 'msg_1', status: 'completed' }], why: 'the API named a turn' },
    { other: [{ ...user('Hi'), refusal: null, tool_calls: [] }], why: 'empty fields came along' },
  ])('is the same where $why', ({ other }) => {
    const rest = [assistant(prose(100))]
    expect(hashes({ messages: [...other, ...rest] })).toEqual(
      hashes({ messages: [user('Hi'), ...rest] }),
    )
  })

  it('differs where a role ends elsewhere', () => {
    const end = user(prose(100))
    const one = hashes({ messages: [user('x'), { role: 'tool', content: '' }, end] })
    const other = hashes({ messages: [user('xto'), { role: 'ol', content: '' }, end] })
    expect(common(one, other)).toBe(0)
  })

  it('is the same where the result of a tool is marked for a cache', () => {
    const result = { type: 'tool_result', tool_use_id: 'toolu_1', content: 'done' }
    const marked = { ...result, cache_control: { type: 'ephemeral' } }
    const [one, other] = [result, marked].map((part) =>
      hashes({ messages: [user([part]), user(prose(100))] }, { path: MESSAGES }),
    )
    expect(one).toHaveLength(1)
    expect(other).toEqual(one)
  })

  it.each([
    { thought: { reasoning_content: prose(500) }, said: 'Yes.' },
    {
      thought: {},
      said: [
        { type: 'thinking', thinking: prose(500) },
        { type: 'text', text: 'Yes.' },
      ],
    },
  ])('does not count what the model thought, which templates drop', ({ thought, said }) => {
    const turns = (more: object) => [{ ...assistant(said), ...more }, user(prose(64))]
    expect(hashes({ messages: turns(thought) })).toHaveLength(1)
    const other = turns({ reasoning_content: 'otherwise' })
    expect(common(hashes({ messages: turns(thought) }), hashes({ messages: other }))).toBe(0)
  })

  it('is the same in the APIs of OpenAI and Anthropic, and in Responses', () => {
    const chat = hashes({ messages: [{ role: 'system', content: 'Be kind.' }, user(prose(100))] })
    const turns = [user(prose(100))]
    const input = [
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: prose(100) }] },
    ]
    expect(chat).toHaveLength(1)
    expect(hashes({ system: 'Be kind.', messages: turns }, { path: MESSAGES })).toEqual(chat)
    expect(hashes({ instructions: 'Be kind.', input }, { path: '/v1/responses' })).toEqual(chat)
  })
})

describe('what comes first', () => {
  const tools = (description: string) => [
    { type: 'function', function: { name: 'f', description } },
  ]
  const messages = [user(prose(300))]

  it('is the tools: a change there leaves nothing to share', () => {
    expect(
      common(hashes({ tools: tools('a'), messages }), hashes({ tools: tools('b'), messages })),
    ).toBe(0)
    const long = tools(prose(300))
    const other = [user('something else')]
    expect(
      common(hashes({ messages, tools: long }), hashes({ tools: long, messages: other })),
    ).toBeGreaterThan(3)
  })

  it('reads a schema as it stands, whatever its properties are called', () => {
    const schema = (id: string) => [
      { name: 'f', input_schema: { properties: { id: { type: id } } } },
    ]
    expect(
      common(
        hashes({ tools: schema('string'), messages }),
        hashes({ tools: schema('number'), messages }),
      ),
    ).toBe(0)
  })

  it('reads all of a tool but where it is cached', () => {
    const [tool] = tools('a')
    const [one, cached, other] = [
      tool,
      { ...tool, cache_control: { type: 'ephemeral' } },
      { ...tool, type: 'custom' },
    ].map((described) => hashes({ tools: [described], messages }))
    expect(cached).toEqual(one)
    expect(common(one!, other!)).toBe(0)
  })

  it('leaves out the line that Claude Code changes with each request, as vLLM does', () => {
    const system = (cch: string) => [
      { type: 'text', text: `x-anthropic-billing-header: cc_version=2.1; cch=${cch};` },
      { type: 'text', text: prose(300) },
    ]
    const [first, second] = ['eb6c6', '74943'].map((cch) =>
      hashes({ system: system(cch), messages }, { path: MESSAGES }),
    )
    expect(first).toEqual(second)
  })
})

describe('pictures and sound', () => {
  const data = (seed: string) => prose(50_000, seed)
  const picture = (url: string) => ({ type: 'image_url', image_url: { url } })
  const shown = (part: object) => ({ messages: [user([part, { type: 'text', text: prose(100) }])] })
  const png = picture(`data:image/png;base64,${data('ABCD')}`)

  it.each([
    { shape: picture, why: 'chat' },
    { shape: (url: string) => ({ type: 'input_image', image_url: url }), why: 'Responses' },
    { shape: (url: string) => ({ type: 'image', source: { data: url } }), why: 'messages' },
    { shape: (url: string) => ({ type: 'input_audio', input_audio: { data: url } }), why: 'sound' },
  ])('split prompts with the same text: $why', ({ shape }) => {
    const of = (url: string) => hashes(shown(shape(`data:image/png;base64,${url}`)))
    const one = of(data('ABCD'))
    expect(of(data('ABCD'))).toEqual(one)
    const others = [data('ABCE'), `${data('ABCD').slice(0, -1)}Z`, `${data('ABCD')}AAAA`].map(of)
    for (const other of [...others, hashes(shown({ type: 'text', text: '' }))]) {
      expect(common(one, other)).toBe(0)
    }
  })

  it.each([
    { part: png },
    { part: { type: 'input_image', image_url: `data:image/png;base64,${data('ABCD')}` } },
    {
      part: { type: 'image', source: { type: 'base64', media_type: 'image/png', data: data('A') } },
    },
    { part: { type: 'input_audio', input_audio: { data: data('ABCD'), format: 'wav' } } },
    { part: { type: 'file', file: { filename: 'a.pdf', file_data: data('ABCD') } } },
    { part: { type: 'document', source: { type: 'base64', data: data('ABCD') } } },
  ])('are not counted as text, however long their base64 is (L38): $part.type', ({ part }) => {
    expect(hashes(shown(part))).toHaveLength(1)
  })

  it('count by the pool’s own figures, so that a short question about a picture has blocks', () => {
    const mediaTokens = { image: 1_000, audioSecond: 25 }
    const question = { messages: [user([png, { type: 'text', text: 'What is this?' }])] }
    expect(hashes(question, { mediaTokens })).toHaveLength(11)
    expect(new Set(hashes(question, { mediaTokens })).size).toBe(11)
    const seconds = { data: 'A'.repeat(100_000), format: 'wav' } // 2.4 of them
    const sound = { messages: [user([{ type: 'input_audio', input_audio: seconds }])] }
    expect(hashes(sound, { mediaTokens })).toHaveLength(1)
    expect(hashes(sound, { mediaTokens: { image: 1, audioSecond: 1 } })).toHaveLength(0)
  })
})

describe('a prompt of token ids', () => {
  const ids = Array.from({ length: 300 }, (_, i) => (i * 7_919) % 150_000)

  it('has a block for each 64 of them, by what they are', () => {
    expect(completion(ids)).toHaveLength(4)
    expect(common(completion(ids), completion(ids.with(200, 5)))).toBe(3)
    expect(completion([...ids, 1, 2, 3]).slice(0, 4)).toEqual(completion(ids))
  })

  it('stands for all of a list, as its first', () => {
    expect(completion([ids, [1, 2]])).toEqual(completion(ids))
    expect(completion([prose(100), 'x'])).toEqual(completion(prose(100)))
  })
})
