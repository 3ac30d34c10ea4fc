/**
 * A request that asks for no stream gets the very JSON that vLLM would have answered by itself,
 * though it went upstream as a stream (L40); and what no stream carries goes upstream without one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask } from '../support/e2e-http.ts'
import { keyOf, onlyRequest, type AnyAnswer, type Fields } from '../support/e2e-api.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Simulated seconds per real second: a long answer in little time. */
const SCALE = 100

let stack: Stack
beforeAll(async () => {
  const profile = { ttftBaseMs: 2, itlBaseMs: 1 }
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'plain', pool: 'plain', options: { profile } },
      { id: 'thinks', pool: 'thinks', options: { profile, reasoning: true } },
      {
        id: 'slow',
        pool: 'slow',
        options: { profile: { ttftBaseMs: 5_000, itlBaseMs: 200 }, timeScale: SCALE },
      },
    ],
  })
})
afterAll(() => stack?.stop())

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'

const user = (content: unknown) => ({ messages: [{ role: 'user', content }] })
const tool = (name: string) => ({
  type: 'function',
  function: {
    name,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' } },
    },
  },
})
const tools = [tool('get_weather'), tool('get_time')]
const schema = { type: 'object', properties: { name: { type: 'string' } } }

const CHATS: Readonly<Record<string, Fields>> = {
  plain: {},
  'stream: false': { stream: false },
  'stream: null': { stream: null },
  'one token': { max_tokens: 1 },
  'as long as the model likes': { max_tokens: undefined },
  'several messages and parts': {
    messages: [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: [{ type: 'text', text: 'two parts: 你好 🚰' }] },
    ],
  },
  'a seed, many tokens of many bytes': { seed: 7, max_tokens: 400 },
  'parallel tools': { tools, max_tokens: undefined },
  'one tool': { tools, parallel_tool_calls: false, max_tokens: undefined },
  'tools cut by the limit': { tools, max_tokens: 6 },
  'a forced tool': {
    tools,
    tool_choice: { type: 'function', function: { name: 'get_time' } },
    max_tokens: undefined,
  },
  'any tool required': { tools, tool_choice: 'required', max_tokens: undefined },
  'no tool wanted': { tools, tool_choice: 'none' },
  'tools, several choices': { tools, n: 2, max_tokens: undefined },
  'a JSON schema': {
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
    max_tokens: undefined,
  },
  logprobs: { logprobs: true },
  'logprobs and top_logprobs': { logprobs: true, top_logprobs: 3 },
  'logprobs of tools': { tools, logprobs: true, top_logprobs: 1, max_tokens: undefined },
  'n = 3': { n: 3 },
  'n = 3 with logprobs': { n: 3, logprobs: true, top_logprobs: 2 },
  'token ids': { return_token_ids: true },
  'token ids of n = 2': { return_token_ids: true, n: 2 },
  'a stop string': { stop: 'a', max_tokens: 60 },
  'stop strings': { stop: ['xyzzy', ' lo', '.'], max_tokens: 60 },
  'a stop string kept in the text': { stop: ['a'], include_stop_str_in_output: true },
  'a stop string at once': {
    stop: ['A', 'B', 'K', 'S', 'L', 'M', 'T', 'R'].slice(0, 4),
    max_tokens: 40,
  },
  'thinking for once': { chat_template_kwargs: { enable_thinking: true }, max_tokens: 60 },
}

const THINKING: Readonly<Record<string, Fields>> = {
  reasoning: { max_tokens: 60 },
  'reasoning cut by the limit': { max_tokens: 4 },
  'reasoning not shown': { include_reasoning: false, max_tokens: 60 },
  'reasoning, then tools': { tools, max_tokens: undefined },
  'reasoning with logprobs, n = 2': { logprobs: true, n: 2, max_tokens: 40 },
  'no thinking': { chat_template_kwargs: { enable_thinking: false } },
}

const TEXTS: Readonly<Record<string, Fields>> = {
  plain: {},
  'the default limit': { max_tokens: undefined },
  'several prompts': { prompt: ['first', 'second one', 'third'] },
  'token ids as prompt': { prompt: [101, 102, 103] },
  'several prompts of token ids': { prompt: [[101, 102], [103]] },
  'several prompts, n = 2': { prompt: ['first', 'second'], n: 2 },
  logprobs: { logprobs: 2 },
  'logprobs 0': { logprobs: 0 },
  'logprobs, n = 2': { logprobs: 1, n: 2 },
  'token ids': { return_token_ids: true },
  'token ids, several prompts': { return_token_ids: true, prompt: ['a b c', 'd'] },
  'a stop string': { stop: ['a'], max_tokens: 60 },
}

/** Whether these go upstream as a stream is the router's business: their JSON is not. */
const ECHOES: Readonly<Record<string, Fields>> = {
  echo: { echo: true },
  'echo of several prompts': { echo: true, prompt: ['first of all', 'second'] },
  'echo alone': { echo: true, max_tokens: 0 },
  'echo with logprobs': { echo: true, logprobs: 2 },
  'echo with logprobs, several prompts, n = 2': {
    echo: true,
    logprobs: 1,
    n: 2,
    prompt: ['first of all', 'second'],
  },
  'echo alone with logprobs': { echo: true, max_tokens: 0, logprobs: 1 },
}

/** What a stream does not carry: the instance must be asked for no stream. */
const UNSTREAMABLE = [
  { path: CHAT, what: 'prompt_logprobs', fields: { prompt_logprobs: 2 } },
  { path: CHAT, what: 'prompt_logprobs: 0', fields: { prompt_logprobs: 0 } },
  { path: COMPLETIONS, what: 'prompt_logprobs', fields: { prompt_logprobs: 1 } },
  { path: COMPLETIONS, what: 'prompt_logprobs: 0', fields: { prompt_logprobs: 0 } },
]

async function both(pool: string, path: string, fields: Fields) {
  const sim = stack.sims[pool]!
  const given = path === CHAT ? user('what is there?') : { prompt: 'what is there?' }
  const body = { model: pool, ...given, max_tokens: 14, ...fields }
  const itself = await ask(sim.url + path, { body: { ...body, stream: undefined } })
  sim.clearRequests()
  const routed = await ask(stack.url + path, { headers: keyOf(stack), body })
  const record = await onlyRequest(sim)
  expect(routed.headers['content-type']).toMatch(/^application\/json/)
  return { itself, routed, record }
}

const answerOf = ({ text }: { text: string }): object => ({
  ...(JSON.parse(text) as object),
  id: 'one of its own',
  created: 0,
})

const expectSame = async (pool: string, path: string, fields: Fields): Promise<boolean> => {
  const { itself, routed, record } = await both(pool, path, fields)
  expect({ status: routed.status, ...answerOf(routed) }).toEqual({
    status: itself.status,
    ...answerOf(itself),
  })
  expect(itself.status).toBe(200)
  return record.stream
}

const named = (cases: Readonly<Record<string, Fields>>) => Object.entries(cases)

describe('an answer made of a stream is what vLLM answers by itself', () => {
  // What went upstream without a stream would show nothing here: hence the second half of each.
  it.each(named(CHATS))('chat: %s', async (_, fields) => {
    expect(await expectSame('plain', CHAT, fields)).toBe(true)
  })
  it.each(named(THINKING))('a model that thinks: %s', async (_, fields) => {
    expect(await expectSame('thinks', CHAT, fields)).toBe(true)
  })
  it.each(named(TEXTS))('completions: %s', async (_, fields) => {
    expect(await expectSame('plain', COMPLETIONS, fields)).toBe(true)
  })
  it.each(named(ECHOES))('completions: %s', async (_, fields) => {
    expect([true, false]).toContain(await expectSame('plain', COMPLETIONS, fields))
  })

  it('takes four simulated minutes and more', async () => {
    const sim = stack.sims['slow']!
    sim.clearRequests()
    const { status, text } = await ask(stack.url + CHAT, {
      headers: keyOf(stack),
      body: { model: 'slow', ...user('a long story'), max_tokens: 1_200 },
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
  it.each(UNSTREAMABLE)('$what of $path', async ({ path, fields }) => {
    const { itself, routed, record } = await both('plain', path, fields)
    expect(record.stream).toBe(false)
    expect(routed.status).toBe(200)
    expect(answerOf(routed)).toEqual(answerOf(itself))
  })

  it("stream_options without a stream: vLLM's own refusal passes", async () => {
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
