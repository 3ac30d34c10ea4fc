import { describe, expect, it } from 'vitest'
import { editedWhole, editing, presented, type Presentation } from '../../worker/forward/edits.ts'
import { FrameSplitter } from '../../worker/forward/frames.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import type { Json } from '../../worker/json.ts'
import { ANSWER, bytes, chunk, recordedStream, sse } from './core-builders.ts'

const SERVED = 'Qwen-14B-Chat'
const AS_IT_IS: Presentation = {
  shown: SERVED,
  hidesUsage: false,
  hidesIds: false,
  reasoningTwice: false,
}
const dialectAt = (path: string) => ENDPOINTS.find((endpoint) => endpoint.path === path)!.dialect!
const chat = dialectAt('/v1/chat/completions')
const ROLE = chunk({ role: 'assistant', content: '' }) as Json
const OPENING = [ROLE, ANSWER[1] as Json]
const editsFor = (named: Partial<Presentation>, opening: readonly Json[] = OPENING) =>
  editing(chat, { ...AS_IT_IS, ...named }, opening)

const USAGE_FRAME = sse({ ...ROLE, choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } })
const THOUGHT = chunk({ reasoning: 'Hm: "a\\b"' }) as Json

describe('what follows the first content', () => {
  it.each([
    { named: {}, native: true, why: 'nothing must change' },
    { named: { shown: 'qwen' }, native: false, why: 'every frame has a name' },
    { named: { hidesUsage: true }, native: false, why: 'a frame must go' },
    { named: { hidesIds: true }, native: true, why: 'ids of a token are a few bytes' },
    { named: { reasoningTwice: true }, native: true, why: 'it begins with words: no thoughts' },
  ])('is left to the runtime: $native, because $why', ({ named, native }) => {
    expect(editsFor(named).rest === null).toBe(native)
  })

  it.each([
    { opening: [ROLE, THOUGHT], thinks: true, why: 'thoughts' },
    { opening: [ROLE], thinks: true, why: 'nothing yet' },
    { opening: [ROLE, chunk({ content: '\n\n' })], thinks: true, why: 'a line break' },
    { opening: [chunk({ content: null, tool_calls: null })], thinks: true, why: 'null' },
    { opening: [ROLE, chunk({ content: '\nHello' })], thinks: false, why: 'words' },
    { opening: [ROLE, chunk({ tool_calls: [{ index: 0 }] })], thinks: false, why: "a tool's call" },
  ])(
    'may have thoughts to say twice: $thinks, where the stream begins with $why (L41)',
    ({ opening, thinks }) => {
      const frames = opening as Json[]
      expect(editsFor({ reasoningTwice: true }, frames).rest !== null).toBe(thinks)
      expect(editsFor({}, frames).rest, 'and never where the fleet does not say so').toBeNull()
    },
  )

  it.each(['/v1/messages', '/v1/responses'])(
    'of %s is edited only if a later frame has the name again',
    (path) => {
      const dialect = dialectAt(path)
      const opening = [
        { message: { model: 'tiny' }, response: { model: 'tiny' }, type: 'x' },
      ] satisfies Json[]
      const { rest } = editing(dialect, { ...AS_IT_IS, shown: 'qwen' }, opening)
      expect(rest === null).toBe(dialect.modelIn === 'first-frame')
    },
  )
})

describe('a frame', () => {
  const text = sse(ANSWER[1])

  it('is another one by its name alone', () => {
    const { held, rest } = editsFor({ shown: 'a$&b"c' })
    const expected = text.replace(`"${SERVED}"`, () => JSON.stringify('a$&b"c'))
    expect(held(text)).toBe(expected)
    expect(rest!(text)).toBe(expected)
  })

  it('is named as the tenant asked whatever vLLM calls it: an adapter has a name of its own', () => {
    const said = { ...ROLE, model: 'adapter' }
    const { held } = editsFor({ shown: 'qwen' }, [said])
    expect(held(sse(said))).toContain('"model":"qwen"')
  })

  it('is not renamed in what was generated', () => {
    const { held } = editsFor({ shown: 'qwen' })
    const frame = sse(chunk({ content: `"model":"${SERVED}" is what I am` }))
    expect(held(frame)).toBe(frame.replace(`"model":"${SERVED}"`, '"model":"qwen"'))
  })

  it('of a recorded stream keeps every other byte', () => {
    const frames = new FrameSplitter().push(bytes(recordedStream('chat-stream-usage')))
    const opening = [{ model: 'tiny' }]
    const { rest } = editing(chat, { ...AS_IT_IS, shown: 'qwen', hidesUsage: true }, opening)
    const usage = frames.findIndex((frame) => frame.includes('"choices":[]'))
    expect(usage).toBe(frames.length - 2)
    expect(frames.map(rest!)).toEqual(
      frames.map((frame, i) =>
        i === usage ? '' : frame.replace('"model":"tiny"', '"model":"qwen"'),
      ),
    )
  })

  it('with usage alone is dropped only where we alone asked for it', () => {
    expect(editsFor({ hidesUsage: true }).rest!(USAGE_FRAME)).toBe('')
    expect(editsFor({ shown: 'qwen' }).rest!(USAGE_FRAME)).toContain('"usage"')
  })

  it.each([
    { frame: text, why: 'a chunk' },
    { frame: sse('[DONE]'), why: 'the end mark' },
    { frame: ': keep-alive\n\n', why: 'a comment' },
    { frame: sse({ ...(ANSWER[1] as object), usage: { prompt_tokens: 1 } }), why: 'its own usage' },
    { frame: sse({ ...ROLE, choices: [] }), why: 'no usage in it' },
    { frame: sse(chunk({ content: '"usage":{ "choices":[]' })), why: 'text about usage' },
  ])('stays where usage is hidden: $why', ({ frame }) => {
    expect(editsFor({ hidesUsage: true }).rest!(frame)).toBe(frame)
  })

  it('has its ids hidden as vLLM writes it when nobody asks', () => {
    const { held } = editsFor({ hidesIds: true })
    const frame = sse({ ...chunk({}, { token_ids: [1, 22, 333] }), prompt_token_ids: [4, 5] })
    expect(held(frame)).toBe(sse({ ...chunk({}, { token_ids: null }), prompt_token_ids: null }))
    const said = sse(chunk({ content: '"token_ids":[1]' }))
    expect(held(said)).toBe(said)
    expect(editsFor({}).held(frame)).toBe(frame)
  })

  it('has its ids hidden wherever it is edited anyway', () => {
    const { rest } = editsFor({ hidesIds: true, hidesUsage: true })
    expect(rest!(sse(chunk({}, { token_ids: [1, 2] })))).toBe(sse(chunk({}, { token_ids: null })))
  })

  it('says a thought by both its names (L41)', () => {
    const { held, rest } = editsFor({ reasoningTwice: true }, [ROLE, THOUGHT])
    for (const edit of [held, rest!]) {
      const text = edit(sse(THOUGHT))
      const { choices } = JSON.parse(text.slice('data: '.length)) as {
        choices: { delta: object }[]
      }
      const thought = 'Hm: "a\\b"'
      expect(choices[0]!.delta).toEqual({ reasoning: thought, reasoning_content: thought })
    }
  })

  it.each([
    { delta: { reasoning: null, content: 'x' }, why: 'no thought' },
    { delta: { reasoning: '' }, why: 'an empty one' },
    { delta: { reasoning: 'x', reasoning_content: 'x' }, why: 'both names already' },
    { delta: { content: '"reasoning":"x"' }, why: 'text about thoughts' },
    { delta: { tool_calls: [{ function: { arguments: '{"reasoning":"x"}' } }] }, why: 'arguments' },
  ])('says nothing twice that is $why', ({ delta }) => {
    const { rest } = editsFor({ reasoningTwice: true }, [THOUGHT])
    expect(rest!(sse(chunk(delta)))).toBe(sse(chunk(delta)))
  })
})

describe('an answer in one piece', () => {
  const json = `{"id": "x",  "model": "${SERVED}","choices":[{"message":{"reasoning":"Hm"}}]}`

  it('keeps every byte but the name, with or without a space', () => {
    for (const text of [json, json.replace('": "', '":"')]) {
      const edited = editedWhole(text, JSON.parse(text) as Json, { ...AS_IT_IS, shown: 'q$1"' })
      expect(edited).toBe(text.replace(`"${SERVED}"`, () => '"q$1\\""'))
    }
    expect(editedWhole(json, JSON.parse(json) as Json, AS_IT_IS)).toBe(json)
    expect(editedWhole('{ }', {}, { ...AS_IT_IS, shown: 'qwen' })).toBe('{ }')
  })

  it('says a thought by both its names (L41)', () => {
    const edited = editedWhole(json, JSON.parse(json) as Json, {
      ...AS_IT_IS,
      reasoningTwice: true,
    })
    expect(JSON.parse(edited)).toMatchObject({
      choices: [{ message: { reasoning: 'Hm', reasoning_content: 'Hm' } }],
    })
  })

  it.each([
    { before: `"metadata":{"model":"${SERVED}"},`, why: 'in an object before it' },
    { before: `"choices":[{"model":"${SERVED}"}],`, why: 'in a list before it' },
    { before: `"id":"\\"model\\":\\"${SERVED}\\"",`, why: 'in a text before it' },
    { before: `"id":"model","x":"${SERVED}",`, why: 'as values before it' },
  ])('is renamed at its top alone, and not $why', ({ before }) => {
    const text = (name: string): string => `{${before}"model": "${name}","usage":null}`
    const parsed = JSON.parse(text(SERVED)) as Json
    expect(editedWhole(text(SERVED), parsed, { ...AS_IT_IS, shown: 'qwen' })).toBe(text('qwen'))
  })

  it('says a thought by both its names however long it is (L41)', () => {
    const thought = 'x'.repeat(20_000_000)
    const body = (message: string): string => `{"model":"a","choices":[{"message":${message}}]}`
    const text = body(`{"reasoning":"${thought}"}`)
    const edited = editedWhole(text, { model: 'a' }, { shown: 'a', reasoningTwice: true })
    const expected = body(`{"reasoning":"${thought}","reasoning_content":"${thought}"}`)
    expect(edited === expected, 'too long to be shown').toBe(true)
  })
})

describe('an assembled answer', () => {
  const body = {
    model: SERVED,
    prompt_token_ids: [1],
    choices: [
      { message: { content: 'x', reasoning: 'Hm' }, token_ids: [2], prompt_token_ids: [1] },
      { message: { content: 'y', reasoning: null }, token_ids: null },
    ],
  }

  it('is presented as the tenant asked for it', () => {
    const named = { shown: 'qwen', hidesIds: true, reasoningTwice: true }
    expect(presented(body, { ...AS_IT_IS, ...named })).toEqual({
      model: 'qwen',
      prompt_token_ids: null,
      choices: [
        {
          message: { content: 'x', reasoning: 'Hm', reasoning_content: 'Hm' },
          token_ids: null,
          prompt_token_ids: null,
        },
        { message: { content: 'y', reasoning: null }, token_ids: null },
      ],
    })
  })

  it('is as it was where nothing must change', () => {
    expect(presented(body, AS_IT_IS)).toEqual(body)
    expect(presented({ output: [] }, { ...AS_IT_IS, hidesIds: true })).toEqual({ output: [] })
  })
})
