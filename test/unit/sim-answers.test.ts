import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { simScript, type ScriptChoice } from '../../scripts/sim/script.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { at, eventsOf, list, post, text } from './sim-wire.ts'

const MESSAGES = [{ role: 'user', content: 'Tell me of sluices.' }]
const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' } },
    },
  },
}
const TIME = { type: 'function', function: { name: 'get_time', parameters: { type: 'object' } } }

const textOf = (choice: ScriptChoice): string => choice.tokens.map(({ delta }) => delta).join('')

let sim: Sim
beforeAll(async () => {
  sim = await startSim({ model: 'm', profile: 'instant' })
})
afterAll(() => sim.close())

const whole = async (path: string, body: object): Promise<unknown> =>
  JSON.parse((await post(sim, path, { model: 'm', ...body })).text) as unknown

const streamed = async (path: string, body: object): Promise<unknown[]> =>
  eventsOf((await post(sim, path, { model: 'm', ...body, stream: true })).text)

interface Said {
  content: string
  reasoning: string
  calls: { id: unknown; name: unknown; arguments: string }[]
  logprobs: unknown[]
  /** finish_reason and stop_reason. */
  finish: unknown[]
}

/** Puts a chat stream together as a client does: one message per choice. */
function assemble(frames: readonly unknown[]): Said[] {
  const choices = new Map<unknown, Said>()
  for (const one of frames.flatMap((frame) => list(frame, 'choices'))) {
    const index = at(one, 'index')
    const so = choices.get(index) ?? {
      content: '',
      reasoning: '',
      calls: [],
      logprobs: [],
      finish: [],
    }
    choices.set(index, so)
    so.content += text(one, 'delta', 'content')
    so.reasoning += text(one, 'delta', 'reasoning')
    for (const call of list(one, 'delta', 'tool_calls')) {
      const name = at(call, 'function', 'name')
      if (name !== undefined) so.calls.push({ id: at(call, 'id'), name, arguments: '' })
      const target = so.calls.at(Number(at(call, 'index')))
      if (target !== undefined) target.arguments += text(call, 'function', 'arguments')
    }
    so.logprobs.push(...list(one, 'logprobs', 'content'))
    if (at(one, 'finish_reason') !== null) {
      so.finish = [at(one, 'finish_reason'), at(one, 'stop_reason')]
    }
  }
  return [...choices.values()]
}

/** The same view of an answer that was not streamed. */
const view = (answer: unknown): Said[] =>
  list(answer, 'choices').map((one) => ({
    content: text(one, 'message', 'content'),
    reasoning: text(one, 'message', 'reasoning'),
    calls: list(one, 'message', 'tool_calls').map((call) => ({
      id: at(call, 'id'),
      name: at(call, 'function', 'name'),
      arguments: text(call, 'function', 'arguments'),
    })),
    logprobs: list(one, 'logprobs', 'content'),
    finish: [at(one, 'finish_reason'), at(one, 'stop_reason')],
  }))

/** The script's only choice. */
function scriptOf(body: Readonly<Record<string, unknown>>): ScriptChoice {
  const [choice] = simScript(body)
  if (choice === undefined) throw new Error('no choice')
  return choice
}

describe('a chat answer', () => {
  it.each([
    ['plain', { max_tokens: 12 }],
    ['ended by the model', {}],
    ['several choices', { n: 3, max_tokens: 5, seed: 4 }],
    ['logprobs', { logprobs: true, top_logprobs: 2, max_tokens: 4 }],
    ['reasoning', { chat_template_kwargs: { enable_thinking: true }, max_tokens: 30 }],
    ['one tool', { tools: [WEATHER] }],
    ['parallel tools', { tools: [WEATHER, TIME], logprobs: true }],
    ['a named tool', { tools: [WEATHER, TIME], tool_choice: TIME }],
    ['a tool that must be called', { tools: [WEATHER], tool_choice: 'required' }],
    ['a tool call cut short', { tools: [WEATHER], max_tokens: 6 }],
    ['JSON', { response_format: { type: 'json_object' } }],
    ['a stop string', { stop: [' ', ','], max_tokens: 40 }],
  ])('says the same streamed and whole: %s', async (_, body) => {
    const request = { messages: MESSAGES, ...body }
    const stream_options = { include_usage: true }
    const frames = await streamed('/v1/chat/completions', { ...request, stream_options })
    const answer = await whole('/v1/chat/completions', request)
    expect(assemble(frames)).toEqual(view(answer))
    expect(frames.at(-1)).toMatchObject({ choices: [] })
    for (const key of ['prompt_tokens', 'completion_tokens', 'total_tokens']) {
      expect(at(frames.at(-1), 'usage', key)).toBe(at(answer, 'usage', key))
    }
  })

  it('is the script, token by token', async () => {
    const body = { messages: MESSAGES, max_tokens: 9, n: 2, return_token_ids: true }
    const frames = await streamed('/v1/chat/completions', body)
    for (const script of simScript(body)) {
      const own = frames
        .flatMap((frame) => list(frame, 'choices'))
        .filter((one) => at(one, 'index') === script.index && at(one, 'token_ids') !== undefined)
      expect(own.map((one) => [at(one, 'delta', 'content'), ...list(one, 'token_ids')])).toEqual(
        script.tokens.map(({ delta, id }) => [delta, id]),
      )
    }
    expect(at(frames[0], 'prompt_token_ids')).toEqual(simScript(body)[0]?.prompt.ids)
  })

  it('begins the same way under a larger limit, and differs by seed and choice', () => {
    const short = textOf(scriptOf({ messages: MESSAGES, max_tokens: 5 }))
    const two = simScript({ messages: MESSAGES, max_tokens: 50, n: 2 }).map(textOf)
    const reseeded = textOf(scriptOf({ messages: MESSAGES, max_tokens: 50, seed: 9 }))
    expect(two[0]?.startsWith(short)).toBe(true)
    expect(new Set([...two, reseeded]).size).toBe(3)
  })

  it('ends "stop" with an end token by itself, "length" at a limit', () => {
    expect(scriptOf({ messages: MESSAGES })).toMatchObject({ finishReason: 'stop' })
    expect(scriptOf({ messages: MESSAGES }).tokens.at(-1)?.kind).toBe('end')
    const limited = scriptOf({ messages: MESSAGES, max_tokens: 200 })
    expect([limited.finishReason, limited.tokens.length]).toEqual(['length', 200])
  })

  it('stops before a stop string, says which, and never shows a part of it', async () => {
    const free = textOf(scriptOf({ messages: MESSAGES, max_tokens: 40 }))
    const stop = free.slice(30, 36)
    const body = { messages: MESSAGES, max_tokens: 40, stop: [stop] }
    const [choice] = view(await whole('/v1/chat/completions', body))
    expect(choice).toMatchObject({ content: free.slice(0, 30), finish: ['stop', stop] })
    const frames = await streamed('/v1/chat/completions', body)
    expect(assemble(frames)[0]).toMatchObject({ content: free.slice(0, 30) })
    const included = { ...body, include_stop_str_in_output: true }
    const [kept] = view(await whole('/v1/chat/completions', included))
    expect(kept).toMatchObject({ content: free.slice(0, 36) })
  })

  it('stops at a stop token id', async () => {
    const id = scriptOf({ messages: MESSAGES, max_tokens: 40 }).tokens[5]?.id
    const body = { messages: MESSAGES, max_tokens: 40, stop_token_ids: [id] }
    const [choice] = view(await whole('/v1/chat/completions', body))
    expect(choice).toMatchObject({ finish: ['stop', id] })
  })

  it('calls the tools it was given with arguments that parse, then says "tool_calls"', async () => {
    const body = { messages: MESSAGES, tools: [WEATHER, TIME] }
    const answer = await whole('/v1/chat/completions', body)
    const [choice] = view(answer)
    expect(choice?.finish).toEqual(['tool_calls', null])
    expect(at(answer, 'choices', 0, 'message', 'content')).toBeNull()
    expect(choice?.calls).toMatchObject([{ name: 'get_weather' }, { name: 'get_time' }])
    expect(JSON.parse(choice?.calls[0]?.arguments ?? '')).toEqual({
      city: expect.any(String),
      days: expect.any(Number),
    })
    const message = at(answer, 'choices', 0, 'message') as object
    expect(Object.keys(message).slice(-2)).toEqual(['tool_calls', 'reasoning'])
  })

  it.each([
    ['one call where parallel calls are off', { parallel_tool_calls: false }, 1, 'tool_calls'],
    ['"stop" after a named call', { tool_choice: TIME }, 1, 'stop'],
    ['no call where tools are not to be used', { tool_choice: 'none' }, 0, 'stop'],
  ])('makes %s', async (_, choice, calls, finish) => {
    const body = { messages: MESSAGES, tools: [WEATHER, TIME], ...choice }
    const [answer] = view(await whole('/v1/chat/completions', body))
    expect([answer?.calls.length, answer?.finish[0]]).toEqual([calls, finish])
  })

  it('talks once a tool has answered, so that a loop of tool calls ends', async () => {
    const messages = [...MESSAGES, { role: 'tool', tool_call_id: 'x', content: '12 C' }]
    const [answer] = view(await whole('/v1/chat/completions', { messages, tools: [WEATHER] }))
    expect(answer).toMatchObject({ calls: [], finish: ['stop', null] })
  })

  it('fits its JSON to the schema', async () => {
    const schema = { type: 'object', properties: { name: { type: 'string' }, ok: { const: 7 } } }
    const response_format = { type: 'json_schema', json_schema: { name: 'x', schema } }
    const [answer] = view(
      await whole('/v1/chat/completions', { messages: MESSAGES, response_format }),
    )
    expect(JSON.parse(answer?.content ?? '')).toEqual({ name: expect.any(String), ok: 7 })
  })

  it('counts reasoning as completion tokens and says how many', async () => {
    const body = { messages: MESSAGES, chat_template_kwargs: { enable_thinking: true } }
    const answer = await whole('/v1/chat/completions', { ...body, max_tokens: 40 })
    expect(at(answer, 'usage', 'completion_tokens')).toBe(40)
    expect(at(answer, 'usage', 'completion_tokens_details', 'reasoning_tokens')).toBeGreaterThan(5)
    const hidden = await whole('/v1/chat/completions', { ...body, include_reasoning: false })
    expect(view(hidden)[0]).toMatchObject({ reasoning: '' })
  })

  it('puts its sender’s request id into the id', async () => {
    const headers = { 'content-type': 'application/json', 'x-request-id': 'abc' }
    const body = JSON.stringify({ model: 'm', messages: MESSAGES, max_tokens: 1 })
    const url = `${sim.url}/v1/chat/completions`
    const answer = await fetch(url, { method: 'POST', headers, body })
    expect(await answer.json()).toMatchObject({ id: 'chatcmpl-abc' })
    expect(sim.requests().at(-1)).toMatchObject({ id: 'abc', outcome: 'done' })
  })
})

describe('a completion', () => {
  it('answers every prompt of a list, ids included, n choices each', async () => {
    const body = { prompt: ['a b', 'c d'], n: 2, max_tokens: 3 }
    const answer = await whole('/v1/completions', body)
    const scripts = simScript(body)
    const texts = list(answer, 'choices').map((one) => text(one, 'text'))
    expect(texts).toEqual(scripts.map(textOf))
    const frames = await streamed('/v1/completions', body)
    const joined = ['', '', '', '']
    for (const frame of frames) {
      const one = at(frame, 'choices', 0)
      joined[Number(at(one, 'index'))] += text(one, 'text')
    }
    expect(joined).toEqual(texts)
    const ids = await whole('/v1/completions', { prompt: [[5, 6, 7], [8]], max_tokens: 2 })
    expect(at(ids, 'usage')).toMatchObject({ prompt_tokens: 4, completion_tokens: 4 })
  })

  it('echoes the prompt, with logprobs for it', async () => {
    const body = { prompt: 'one two', echo: true, logprobs: 1, max_tokens: 2 }
    const [one] = list(await whole('/v1/completions', body), 'choices')
    expect(text(one, 'text')).toBe(`one two${textOf(scriptOf(body))}`)
    expect(at(one, 'logprobs', 'token_logprobs', 0)).toBeNull()
    expect(list(one, 'logprobs', 'tokens').join('')).toBe(text(one, 'text'))
    const [frame] = await streamed('/v1/completions', body)
    expect(text(frame, 'choices', 0, 'text')).toMatch(/^one two/)
  })

  it('has 16 tokens unless told otherwise', async () => {
    const answer = await whole('/v1/completions', { prompt: 'x' })
    expect(at(answer, 'usage')).toMatchObject({ completion_tokens: 16 })
  })
})

describe('a refusal', () => {
  it.each([
    ['prompt_logprobs', { messages: MESSAGES, stream: true, prompt_logprobs: 1 }],
    ['stream_options', { messages: MESSAGES, stream_options: { include_usage: true } }],
    ['tools', { messages: MESSAGES, tools: [] }],
    ['tool_choice', { messages: MESSAGES, tool_choice: 'auto' }],
    ['cache_salt', { messages: MESSAGES, cache_salt: 'a/b' }],
    ['top_logprobs', { messages: MESSAGES, top_logprobs: 2 }],
    ['body.messages', {}],
  ])('names %s', async (param, body) => {
    const answer = await post(sim, '/v1/chat/completions', { model: 'm', ...body })
    expect(answer.status).toBe(400)
    expect(JSON.parse(answer.text)).toMatchObject({ error: { param, code: 400 } })
  })

  it.each([[[]], ['']])('comes for a completion without a prompt: %j', async (prompt) => {
    const answer = await post(sim, '/v1/completions', { model: 'm', prompt })
    expect(JSON.parse(answer.text)).toMatchObject({ error: { param: 'prompt', code: 400 } })
  })

  it('comes when prompt and answer do not fit together', async () => {
    const body = { model: 'm', messages: MESSAGES, max_tokens: 8190 }
    const answer = await post(sim, '/v1/chat/completions', body)
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining('"input_tokens"')])
  })
})

it('answers embeddings only where it embeds', async () => {
  const embedder = await startSim({ model: 'm', kind: 'embed', controlPort: null })
  const body = { model: 'm', input: ['a', 'b'] }
  const answer = await post(embedder, '/v1/embeddings', body)
  await embedder.close()
  expect(JSON.parse(answer.text)).toMatchObject({
    object: 'list',
    data: [{ index: 0, object: 'embedding' }, { index: 1 }],
  })
  expect((await post(sim, '/v1/embeddings', body)).text).toBe('{"detail":"Not Found"}')
})
