/** What happens to clients, and what they must see of it. One table; every client goes through it. */
import { expect } from 'vitest'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import { eventually } from '../support/e2e-wait.ts'
import type { Animal, Truth } from './animal.ts'
import { ENOUGH, SCHEMA, TOOLS, type Ask, type Said } from './client.ts'
import type { PoolName } from './fleet.ts'

/** One request, over and seen from both ends. */
export interface Sight {
  readonly animal: Animal
  readonly ask: Ask
  readonly said: Said
  /** How the simulators saw it, by instance, oldest first; empty where it never came so far. */
  readonly seen: readonly { readonly instance: string; readonly record: RequestRecord }[]
  /** What the engine says to it, to its last token; null where it never came so far. */
  readonly truth: Truth | null
}

export interface Case {
  readonly name: string
  readonly pool: PoolName
  readonly modes: readonly ('stream' | 'whole')[]
  /** Clients that have such a notion; default all. */
  readonly applies?: (animal: Animal) => boolean
  readonly ask?: Partial<Ask>
  /** Another door: with a key that is none, for a model that is none. */
  readonly stranger?: boolean
  readonly model?: string
  /** Asked again, at most this often, until the pool's first instance was asked. Default once. */
  readonly tries?: number
  readonly judge: (sight: Sight) => void | Promise<void>
}

const BOTH = ['whole', 'stream'] as const
const STREAM = ['stream'] as const

export const CASES: readonly Case[] = [
  {
    name: 'is answered, and not told of usage that it did not ask for',
    pool: 'whole',
    modes: BOTH,
    judge: wholeWith(),
  },
  {
    name: 'is told of the usage that it asked for',
    pool: 'whole',
    modes: STREAM,
    applies: ({ usage }) => usage.stream === 'asked',
    ask: { usage: true },
    judge: wholeWith(),
  },
  {
    name: 'gets two tool calls in one answer',
    pool: 'whole',
    modes: BOTH,
    applies: ({ tools }) => tools,
    ask: { wants: 'tools', tokens: 400 },
    judge: (sight) => {
      const { calls } = sight.said
      expect(calls.map(({ name }) => name)).toEqual(TOOLS.map(({ name }) => name))
      expect(calls).toEqual(sight.truth?.calls)
      expect(sight.said.error).toBeNull()
    },
  },
  {
    name: 'gets JSON of its schema',
    pool: 'whole',
    modes: BOTH,
    applies: ({ schema }) => schema,
    ask: { wants: 'schema', tokens: 400 },
    judge: (sight) => {
      wholeWith()(sight)
      const book = JSON.parse(sight.said.text) as object
      expect(Object.keys(book)).toEqual([...SCHEMA.required])
    },
  },
  {
    name: 'leaves in the middle of its answer, and the engine stops',
    pool: 'endless',
    modes: BOTH,
    applies: ({ streams, truth }) => streams && truth.name === 'generated',
    ask: { leaves: true, tokens: 6_000 },
    tries: 4,
    judge: left,
  },
  {
    name: 'leaves before the first token, and the engine stops',
    pool: 'stuck',
    modes: ['whole'],
    ask: { leaves: true },
    tries: 4,
    judge: left,
  },
  {
    name: 'reads why vLLM refuses its request',
    pool: 'whole',
    modes: BOTH,
    applies: ({ refusal }) => refusal !== null,
    ask: { wants: 'broken' },
    judge: (sight) => refused(sight, 400, sight.animal.refusal?.code, sight.animal.refusal?.words),
  },
  {
    name: 'reads that its key is none',
    pool: 'whole',
    modes: BOTH,
    stranger: true,
    judge: (sight) => refused(sight, 401, 'invalid_api_key', /API key/i),
  },
  {
    name: 'reads that there is no such model',
    pool: 'whole',
    modes: BOTH,
    model: 'qwen-99',
    judge: (sight) => refused(sight, 404, 'model_not_found', /qwen-99/),
  },
  {
    name: 'never hears of an error in the first frame that another instance makes good',
    pool: 'pair',
    modes: BOTH,
    tries: 12,
    judge: (sight) => {
      expect(sight.seen.map(({ instance }) => instance)).toEqual(['pair', 'pair-well'])
      wholeWith()(sight)
    },
  },
  {
    name: "gets a status and the engine's words for its error in the first frame",
    pool: 'failing',
    modes: BOTH,
    judge: (sight) => refused(sight, 502, 'upstream_failed', /Internal server error/),
  },
  {
    name: 'gets the status of a refusal that came in the first frame',
    pool: 'strict',
    modes: BOTH,
    judge: (sight) => refused(sight, 400, 'invalid_value', /The request could not be processed\./),
  },
  {
    name: 'is told that its answer is cut by a reset',
    pool: 'reset',
    modes: STREAM,
    judge: cut(/answer above is incomplete/),
  },
  {
    name: 'is told that its answer is cut by an end that looks clean',
    pool: 'early-end',
    modes: STREAM,
    judge: cut(/answer above is incomplete/),
  },
  {
    name: "is told of the engine's error behind the half of its answer",
    pool: 'gives-up',
    modes: STREAM,
    judge: cut(/Internal server error/),
  },
  {
    name: 'is told that its answer is cut within a frame',
    pool: 'mid-frame',
    modes: STREAM,
    // Where half of the frame went out before, nothing more can be said: the connection breaks.
    judge: cut(/./),
  },
  {
    name: 'gets no half of an answer where it asked for a whole one',
    pool: 'reset',
    modes: ['whole'],
    judge: (sight) => refused(sight, 502, 'upstream_failed', /failed/),
  },
  {
    name: 'minds no comments of ours before the first token',
    pool: 'slow',
    modes: BOTH,
    judge: wholeWith(),
  },
  {
    name: 'is told of usage as ever behind our comments',
    pool: 'slow',
    modes: STREAM,
    applies: ({ usage }) => usage.stream === 'asked',
    ask: { usage: true },
    judge: wholeWith(),
  },
  {
    name: 'reads of a refusal behind our comments',
    pool: 'slow-no',
    modes: STREAM,
    judge: (sight) =>
      refused(sight, null, 'invalid_value', /The server had an error while processing/),
  },
  {
    name: 'reads of a failure behind our comments',
    pool: 'slow-end',
    modes: STREAM,
    judge: (sight) => refused(sight, null, 'upstream_failed', /failed/),
  },
  {
    name: "minds no comments of vLLM's",
    pool: 'commenting',
    modes: BOTH,
    // vLLM says them in its older streams alone.
    applies: ({ usage, truth }) => usage.stream === 'asked' && truth.name === 'generated',
    ask: { tokens: 8, usage: true },
    judge: wholeWith(),
  },
]

/** The whole of what the engine said, once, under the name that was asked for. */
function wholeWith() {
  return ({ animal, ask, said, seen, truth }: Sight): void => {
    const { record, instance } = seen.at(-1) ?? {}
    expect(said.error).toBeNull()
    expect(said.text).not.toBe('')
    expect(said.text).toBe(truth?.text)
    expect(said.calls).toEqual([])
    if (ask.stream) expect(said.pieces).toBeGreaterThan(2)
    if (said.model !== null) expect(said.model).toBe(ask.model)

    const { whole, stream } = animal.usage
    const told = ask.stream ? stream === 'always' || (stream === 'asked' && ask.usage) : whole
    const { promptTokens: prompt, tokensGenerated: completion } = record!
    expect(said.usage).toEqual(told ? { prompt, completion } : null)

    if (!animal.receipts) return
    expect(said.requestId).toBe(record?.id)
    expect(said.instance).toBe(instance)
  }
}

/**
 * An error before anything else, with words that help.
 * @param status null: it came too late for one
 */
function refused({ animal, said }: Sight, status: number | null, code = '', words = /./): void {
  expect(said).toMatchObject({ text: '', calls: [], error: { status } })
  expect(said.error?.message).toMatch(words)
  expect(said.error?.message).not.toMatch(/127\.0\.0\.1|<html|nginx/i)
  expect(said.error?.code).toBe(animal.codes ? code : null)
  if (animal.receipts && status !== null) {
    expect(said.requestId).toMatch(/^req_[0-9a-f]{32}$/)
  }
}

/** An error at the end of what came, and what came is how the answer begins. */
function cut(words: RegExp) {
  return ({ said, truth }: Sight): void => {
    expect(said.error?.message).toMatch(words)
    // Half a frame must not be taken for a frame, nor glued to what comes after it.
    expect(`${said.error?.name} ${said.error?.message}`).not.toMatch(/SyntaxError|JSON/i)
    expect(said.text).not.toBe('')
    expect(truth?.text.startsWith(said.text)).toBe(true)
    expect(said.text.length).toBeLessThan(truth?.text.length ?? 0)
    expect(said.usage).toBeNull()
  }
}

async function left({ ask, said, seen, truth }: Sight): Promise<void> {
  const { record } = seen.at(-1)!
  await eventually(
    () => record.outcome,
    (outcome) => outcome === 'aborted',
  )
  expect(record.tokensGenerated).toBeLessThan(ask.tokens / 10)
  expect(truth?.text.startsWith(said.text)).toBe(true)
  // What came in one read with the third piece may be handed out all the same.
  if (ask.stream) expect(said.pieces).toBeGreaterThanOrEqual(ENOUGH)
}
