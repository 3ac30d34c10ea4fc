import { describe, expect, it } from 'vitest'
import { HASH_BYTES } from '../../durable-objects/scheduling/blocks.ts'
import { workFor, workOf, type Asker } from '../../worker/ingress/work.ts'
import type { Json } from '../../worker/json.ts'
import { prefixHashes } from '../../worker/routing/prefix.ts'
import type { Arm, PoolRoute } from '../../durable-objects/fleet/snapshot.ts'
import { poolRoute } from './core-builders.ts'

const PATH = '/v1/chat/completions'
const NOTHING = { promptTokens: 0, outputTokens: null, prefix: new Uint8Array() }

const asker = (headers: Record<string, string> = {}): Asker => ({
  tenant: 'acme',
  headers: new Headers(headers),
  place: 'weur',
})

/** Where a request goes: an arm of that pool. */
const to = (pool: Partial<PoolRoute> = {}, arm: Partial<Arm> = {}) => ({
  pool: poolRoute(pool),
  arm: { name: 'stable', pool: poolRoute(pool).pool, weight: 1, ...arm },
})

/** What is made of a body, whose prompt matters to no test here. */
const work = (body: Json, headers: Record<string, string> = {}) =>
  workOf(body, asker(headers), { promptTokens: 7, outputTokens: null, prefix: new Uint8Array(8) })

const sessionOf = (body: Json, headers: Record<string, string> = {}): string =>
  work(body, headers).session

describe('the work of a request', () => {
  it('says who asks, from where, and what the prompt is', () => {
    expect(work({}, { 'cf-connecting-ip': '203.0.113.7' })).toMatchObject({
      tenant: 'acme',
      address: '203.0.113.7',
      place: 'weur',
      promptTokens: 7,
      prefix: new Uint8Array(8),
    })
    expect(work({}).address, 'a local run says none').toBe('')
  })

  it('has nothing of the text of the prompt in it', () => {
    const secret = 'the diagnosis is confidential'
    const { prefix, ...told } = workFor(
      { messages: [{ role: 'user', content: secret.repeat(100) }] },
      { path: PATH, salt: 's', asker: asker() },
    )(to())
    expect(JSON.stringify(told)).not.toContain('diagnosis')
    expect(Buffer.from(prefix).toString('latin1')).not.toContain('diagnosis')
  })
})

describe('the session', () => {
  it.each([
    { body: { prompt_cache_key: 's1' }, by: 'prompt_cache_key' },
    { body: { user: 's1' }, by: 'user' },
    { body: { safety_identifier: 's1' }, by: 'safety_identifier' },
    { body: { metadata: { user_id: 's1' } }, by: "Anthropic's metadata" },
    { body: { user: '', safety_identifier: 's1' }, by: 'the first that is not empty' },
    { body: { user: 7, metadata: { user_id: 's1' } }, by: 'the first that is a text' },
  ])('is known by $by', ({ body }) => {
    expect(sessionOf(body)).toBe(sessionOf({}, { 'x-session-id': 's1' }))
    expect(sessionOf(body)).not.toBe(sessionOf({}))
  })

  it('is what the header says before anything in the body', () => {
    const body = { user: 'u', prompt_cache_key: 'k', metadata: { user_id: 'm' } }
    expect(sessionOf(body, { 'x-session-id': 's1' })).toBe(sessionOf({}, { 'x-session-id': 's1' }))
    expect(sessionOf(body)).toBe(sessionOf({ prompt_cache_key: 'k' }))
  })

  it('is the tenant where nothing says, and never that of another tenant', () => {
    const of = (tenant: string, user?: string) =>
      workOf({ user }, { ...asker(), tenant }, NOTHING).session
    expect(of('acme')).toBe(of('acme'))
    expect(of('acme')).not.toBe(of('other'))
    expect(of('acme', 'u1')).not.toBe(of('other', 'u1'))
    expect(of('acme', 'x')).not.toBe(of('acmex'))
  })

  it('is cut where a tenant makes it long: it goes into every call of the pool', () => {
    expect(sessionOf({ user: 'u'.repeat(1_000_000) }).length).toBeLessThan(200)
  })

  it.each([{ metadata: null }, { metadata: 'text' }, { metadata: [] }, { user: { id: 1 } }])(
    'is none in what is no name: %j',
    (body) => {
      expect(sessionOf(body)).toBe(sessionOf({}))
    },
  )
})

describe('the most tokens that an answer may have, and how many there are', () => {
  const asked = (body: Json, path = PATH) => workFor(body, { path, salt: '', asker: asker() })(to())

  it.each([
    { body: { max_tokens: 100 }, tokens: 100, why: 'as it says' },
    { body: { max_completion_tokens: 100, max_tokens: 7 }, tokens: 100, why: 'by the newer name' },
    { body: { max_tokens: 100, n: 3 }, tokens: 100, answers: 3, why: 'of each answer' },
    { body: { max_tokens: '1_00', n: '2' }, tokens: 100, answers: 2, why: 'as vLLM takes it' },
    { body: { max_tokens: 50, prompt: ['a', 'b'] }, tokens: 50, answers: 2, why: 'of each prompt' },
    { body: { max_tokens: 50, prompt: ['a', 'b'], n: 2 }, tokens: 50, answers: 4, why: 'of both' },
    { body: { max_tokens: 50, prompt: [1, 2, 3] }, tokens: 50, why: 'where token ids are one' },
    { body: { max_tokens: 50, n: null }, tokens: 50, why: 'where n is null' },
    { body: { max_tokens: 50, n: -1_000_000 }, tokens: 50, why: 'where n is below one' },
    { body: { max_tokens: 50, n: 2.7 }, tokens: 50, answers: 2, why: 'where n is no whole number' },
    { body: { max_tokens: 50, prompt: [] }, tokens: 50, why: 'where there is no prompt' },
    { body: { max_tokens: 50, n: 1e300 }, tokens: 50, answers: 1024, why: 'of more than any pool' },
    { body: { max_tokens: 50, n: 'Infinity' }, tokens: 50, answers: 1024, why: 'without end' },
  ])('are $tokens $why: $body', ({ body, tokens, answers = 1 }) => {
    expect(asked(body)).toMatchObject({ outputTokens: tokens, answers })
  })

  it.each([
    { path: '/v1/chat/completions', field: 'max_completion_tokens' },
    { path: '/v1/completions', field: 'max_tokens' },
    { path: '/v1/responses', field: 'max_output_tokens' },
    { path: '/v1/messages', field: 'max_tokens' },
  ])(
    'are read where vLLM reads them at $path: no other field makes them fewer',
    ({ path, field }) => {
      const few = { max_tokens: 1, max_completion_tokens: 1, max_output_tokens: 1 }
      expect(asked({ ...few, [field]: 600 }, path).outputTokens).toBe(600)
      const { [field]: _, ...others } = few as Record<string, number>
      if (path !== PATH) expect(asked(others, path).outputTokens).toBeNull()
      expect(asked({ ...few, [field]: 0 }, path).outputTokens ?? 1, 'nor does none').toBe(1)
    },
  )

  it.each([
    {},
    { max_tokens: null },
    { max_tokens: 'many' },
    { max_tokens: {} },
    { n: 4 },
    { max_tokens: -5 },
    { max_tokens: 0 },
    { max_tokens: '-Infinity' },
  ])('are not known of %j', (body) => {
    expect(asked(body).outputTokens).toBeNull()
  })
})

describe('the work in each pool', () => {
  const body = { messages: [{ role: 'user', content: 'word '.repeat(2_000) }] }
  const source = { path: PATH, salt: 'salt of acme', asker: asker() }

  it('is made once, however often the request is tried there', () => {
    const of = workFor(body, source)
    const route = to()
    expect(of(route)).toBe(of(to()))
    expect(of(to({ pool: 'other' }))).not.toBe(of(route))
  })

  it('takes the estimate that was made for a rule, by the same figures', () => {
    const media = { image: 500, audioSecond: 1 }
    const promptTokens = (given?: object) => (given === media ? 77 : 0)
    const of = workFor(body, { ...source, promptTokens })
    expect(of(to({ mediaTokens: media })).promptTokens).toBe(77)
  })

  it('is by the adapter of its arm, each of a pool by itself', () => {
    const of = workFor(body, source)
    const [own, tuned, other] = [
      to(),
      to({ servedAs: 'tuned' }, { adapter: 'tuned' }),
      to({ servedAs: 'other' }, { adapter: 'other' }),
    ].map(of)
    expect([own!.adapter, tuned!.adapter, other!.adapter]).toEqual([null, 'tuned', 'other'])
    expect(tuned!.prefix, 'what one has cached is of no use to another').not.toEqual(other!.prefix)
  })

  it('hashes whole blocks, the same for the same prompt, another for another model or tenant', () => {
    const prefix = (named = {}, from = source, of: Json = body) =>
      Buffer.from(workFor(of, from)(to(named)).prefix).toString('hex')
    const hashes = prefix()
    expect(hashes.length).toBeGreaterThan(0)
    expect(hashes.length % (2 * HASH_BYTES)).toBe(0)
    expect(prefix()).toBe(hashes)
    expect(prefix({ pool: 'twin' }), 'a twin of the pool serves the same model').toBe(hashes)
    expect(prefix({ servedAs: 'Qwen-14B-Chat-Int8' })).not.toBe(hashes)
    expect(prefix({}, { ...source, salt: 'of another tenant' })).not.toBe(hashes)
    const longer = {
      messages: [...body.messages, { role: 'assistant', content: 'x '.repeat(999) }],
    }
    expect(prefix({}, source, longer).startsWith(hashes)).toBe(true)
  })

  it("counts pictures by the pool's own figure, each pool by its own (L38)", () => {
    const url = `data:image/png;base64,${'A'.repeat(400_000)}`
    const picture = { messages: [{ content: [{ type: 'image_url', image_url: { url } }] }] }
    const of = workFor(picture, source)
    const { mediaTokens: _, ...older } = poolRoute({ pool: 'older' })
    const words = of({ ...to(), pool: older }).promptTokens
    expect(words, 'its base64 is no text').toBeLessThan(10)
    const tokens = (pool: string, image: number): number =>
      of(to({ pool, mediaTokens: { image, audioSecond: 1 } })).promptTokens
    expect(tokens('small', 64)).toBe(64 + words)
    expect(tokens('large', 2_048)).toBe(2_048 + words)
  })
})

it("hashes pictures by the pool's own figure", () => {
  const url = 'data:image/png;base64,AAAA'
  const content = [
    { type: 'image_url', image_url: { url } },
    { type: 'text', text: 'hi' },
  ]
  const body = { messages: [{ role: 'user', content }] }
  const mediaTokens = { image: 1_000, audioSecond: 1 }
  const { prefix } = workFor(body, { path: PATH, salt: 's', asker: asker() })(to({ mediaTokens }))
  const model = poolRoute().servedAs
  expect(prefix).toEqual(prefixHashes(body, { path: PATH, model, salt: 's', mediaTokens }))
  expect(prefix.byteLength).toBeGreaterThan(0)
})
