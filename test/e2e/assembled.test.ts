/**
 * A request that asks for no stream gets the very JSON that vLLM would have answered by itself,
 * though it went upstream as a stream (L40); and what no stream carries goes upstream without one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask } from '../support/e2e-http.ts'
import { generating, keyOf, onlyRequest, type AnyAnswer, type Fields } from '../support/e2e-api.ts'
import { ALL, CHAT, type Row } from '../support/e2e-table.ts'
import {
  CHATS,
  ECHOES,
  MESSAGE_CASES,
  RESPONSE_CASES,
  TEXTS,
  THINKING,
} from '../support/assembled-cases.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Simulated seconds per real second: a long answer in little time. */
const SCALE = 100

let stack: Stack
beforeAll(async () => {
  const profile = { ttftBaseMs: 2, itlBaseMs: 1 }
  stack = await startStack({
    viaNginx: true,
    // As vLLM calls it and no other way: the rest is about rewriting.
    fleet: { defaults: { reasoning_field: 'reasoning' } },
    sims: [
      { id: 'plain', pool: 'plain', slots: 64, options: { profile } },
      { id: 'thinks', pool: 'thinks', slots: 64, options: { profile, reasoning: true } },
      {
        id: 'slow',
        pool: 'slow',
        options: { profile: { ttftBaseMs: 5_000, itlBaseMs: 200 }, timeScale: SCALE },
      },
    ],
  })
})
afterAll(() => stack?.stop())

const rowAt = (path: string): Row => ALL.find((row) => row.path === path)!
const COMPLETIONS = rowAt('/v1/completions')
const RESPONSES = rowAt('/v1/responses')
const MESSAGES = rowAt('/v1/messages')

/** Asks the engine itself and the router, at once. */
async function both(pool: string, row: Row, fields: Fields) {
  const sim = stack.sims[pool]!
  const body = row.body(pool, 'what is there?', { max_tokens: 14, ...fields })
  const [itself, routed] = await Promise.all([
    ask(sim.url + row.path, { body }),
    ask(stack.url + row.path, { headers: keyOf(stack), body }),
  ])
  expect(routed.headers['content-type']).toMatch(/^application\/json/)
  const records = generating(sim).filter(({ id }) => id === routed.headers['x-request-id'])
  expect(records).toHaveLength(1)
  return { itself, routed, record: records[0]! }
}

/** Ids and times of its own each answer has; those of tool calls are part of what was said. */
const answerOf = ({ text }: { text: string }): object =>
  JSON.parse(text, (key, value: unknown) => {
    if (key === 'created' || key === 'created_at') return 0
    if (key === 'signature' || key === 'call_id') return 'of its own'
    return key === 'id' && !String(value).startsWith('chatcmpl-tool-') ? 'of its own' : value
  }) as object

/** @returns whether the instance was asked for a stream */
const expectSame = async (pool: string, row: Row, fields: Fields): Promise<boolean> => {
  const { itself, routed, record } = await both(pool, row, fields)
  expect({ status: routed.status, ...answerOf(routed) }).toEqual({
    status: itself.status,
    ...answerOf(itself),
  })
  // Clients do not care, but people who compare do.
  expect(Object.keys(answerOf(routed))).toEqual(Object.keys(answerOf(itself)))
  expect(itself.status).toBe(200)
  return record.stream
}

const named = (cases: Readonly<Record<string, Fields>>) => Object.entries(cases)

describe('an answer made of a stream is what vLLM answers by itself', () => {
  // What went upstream without a stream would show nothing here: hence the second half of each.
  it.concurrent.each(named(CHATS))('chat: %s', async (_, fields) => {
    expect(await expectSame('plain', CHAT, fields)).toBe(true)
  })
  it.concurrent.each(named(THINKING))('a model that thinks: %s', async (_, fields) => {
    expect(await expectSame('thinks', CHAT, fields)).toBe(true)
  })
  it.concurrent.each(named(TEXTS))('completions: %s', async (_, fields) => {
    expect(await expectSame('plain', COMPLETIONS, fields)).toBe(true)
  })
  it.concurrent.each(named(RESPONSE_CASES))('responses: %s', async (_, fields) => {
    expect(await expectSame('plain', RESPONSES, fields)).toBe(true)
  })
  it.concurrent.each(named(MESSAGE_CASES))('messages: %s', async (_, fields) => {
    expect(await expectSame('plain', MESSAGES, fields)).toBe(true)
  })

  it.concurrent.each(ALL)('$path: of an alias, but for the name', async (row) => {
    const body = (model: string) => row.body(model, 'what is there?', { max_tokens: 14 })
    const sent = { headers: keyOf(stack) }
    const by = async (model: string) =>
      answerOf(await ask(stack.url + row.path, { ...sent, body: body(model) }))
    const alias = await by('plain-alias')
    const own = await by('plain')
    expect(alias).toEqual('model' in own ? { ...own, model: 'plain-alias' } : own)
  })

  it.concurrent('takes four simulated minutes and more', async () => {
    const sim = stack.sims['slow']!
    sim.clearRequests()
    const { status, text } = await ask(stack.url + CHAT.path, {
      headers: keyOf(stack),
      body: CHAT.body('slow', 'a long story', { max_tokens: 1_200 }),
    })
    expect(status).toBe(200)
    const answer = JSON.parse(text) as AnyAnswer & { usage: { completion_tokens: number } }
    expect(answer.usage.completion_tokens).toBe(1_200)
    expect(answer.choices?.[0]?.finish_reason).toBe('length')
    const { arrivedAt, endedAt } = await onlyRequest(sim)
    expect((endedAt! - arrivedAt) * SCALE).toBeGreaterThan(4 * 60_000)
  })
})

describe('what a stream does not carry goes upstream unstreamed', () => {
  it.concurrent.each(named(ECHOES))('completions: %s', async (_, fields) => {
    expect(await expectSame('plain', COMPLETIONS, fields)).toBe(false)
  })
  it.concurrent('chat: echo', async () => {
    expect(await expectSame('plain', CHAT, { echo: true })).toBe(false)
  })
  it.concurrent.each(ALL.filter(({ assembled }) => !assembled))('$path', async (row) => {
    expect(await expectSame('plain', row, {})).toBe(false)
  })

  it.concurrent("stream_options without a stream: vLLM's own refusal passes", async () => {
    const { itself, routed, record } = await both('plain', CHAT, {
      stream_options: { include_usage: true },
    })
    expect(record.stream).toBe(false)
    expect([itself.status, routed.status]).toEqual([400, 400])
    const { error } = JSON.parse(routed.text) as AnyAnswer
    expect(error?.message).toContain('Stream options can only be defined when')
    expect(typeof error?.code).toBe('string')
  })
})
