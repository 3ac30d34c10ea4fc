/** What the tests read out of answers, and out of the records of those who gave them. */
import { createParser } from 'eventsource-parser'
import OpenAI from 'openai'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { eventually } from './e2e-wait.ts'
import type { Stack } from './stack.ts'

export type Fields = Readonly<Record<string, unknown>>

/** The official SDK, told not to retry: a test wants to see the first answer. */
export const sdk = (
  { url, apiKey }: Pick<Stack, 'url' | 'apiKey'>,
  { path = '/v1', key = apiKey }: { path?: string; key?: string } = {},
): OpenAI => new OpenAI({ baseURL: url + path, apiKey: key, maxRetries: 0, timeout: 30_000 })

export const keyOf = ({ apiKey }: Pick<Stack, 'apiKey'>) => ({ authorization: `Bearer ${apiKey}` })

/** The data of each whole event of a stream; comments and an unfinished last event are left out. */
export function eventsOf(text: string): string[] {
  const events: string[] = []
  const parser = createParser({ onEvent: ({ data }) => events.push(data) })
  parser.feed(text)
  return events
}

interface AnyChoice {
  readonly index?: number
  readonly text?: string
  readonly delta?: { readonly content?: string | null }
  readonly message?: { readonly content: string | null }
  readonly finish_reason?: string | null
}

interface Item {
  readonly content?: readonly { readonly text?: string }[]
}

/** An answer, or a frame of one, of any endpoint. */
export interface AnyAnswer {
  readonly choices?: readonly AnyChoice[]
  readonly error?: { readonly code: unknown; readonly type?: string; readonly message: string }
  readonly type?: string
  readonly object?: string
  readonly model?: string
  /** Of responses: the text of one frame; of messages: what is new. */
  readonly delta?: string | { readonly text?: string; readonly stop_reason?: string | null }
  readonly response?: {
    readonly status: string
    readonly model: string
    readonly incomplete_details: { readonly reason: string } | null
  }
  readonly message?: { readonly model: string }
  readonly status?: string
  readonly stop_reason?: string | null
  readonly output?: readonly Item[]
  readonly content?: Item['content']
  readonly text?: string
  readonly data?: unknown
  readonly results?: unknown
  readonly input_tokens?: number
}

/** The whole answer, or the data frames of a stream, parsed; an end mark left out. */
export function partsOf(answer: string): AnyAnswer[] {
  const parts = answer.startsWith('{') ? [answer] : eventsOf(answer).filter((it) => it !== '[DONE]')
  return parts.map((json) => JSON.parse(json) as AnyAnswer)
}

/**
 * What an answer says, streamed or not: the text of the first choice; where nothing is generated, the
 * numbers.
 */
export const textIn = (answer: string): string => partsOf(answer).map(saidIn).join('')

function saidIn(part: AnyAnswer): string {
  const { choices, type, delta, output, content, data, results, input_tokens: counted } = part
  if (choices) {
    const choice = choices.find(({ index = 0 }) => index === 0)
    return choice?.text ?? choice?.delta?.content ?? choice?.message?.content ?? ''
  }
  const items = (output ?? [{ content: content ?? [] }]).flatMap((item) => item.content ?? [])
  if (output || content) return items.map(({ text }) => text ?? '').join('')
  if (type === 'response.output_text.delta' && typeof delta === 'string') return delta
  if (type === 'content_block_delta' && typeof delta === 'object') return delta.text ?? ''
  if (type !== undefined) return ''
  const numbers = data ?? results ?? counted
  return part.text ?? (numbers === undefined ? '' : JSON.stringify(numbers))
}

/** Whether a stream ended as one does that is whole: one reason to finish, one end mark, last. */
export function isWhole(stream: string): boolean {
  const events = eventsOf(stream)
  const parts = partsOf(stream)
  const isMarked = events.indexOf('[DONE]') === events.length - 1
  return (
    stream.endsWith('\n\n') && (hasEvents(parts) ? endsLast(parts) : isMarked && endsOnce(parts))
  )
}

const hasEvents = ([first]: readonly AnyAnswer[]): boolean => first?.type !== undefined

const endsOnce = (parts: readonly AnyAnswer[]): boolean =>
  parts.flatMap(({ choices }) => (choices ?? []).flatMap((choice) => choice.finish_reason ?? []))
    .length === 1

/** Of the APIs whose events have names: the last event is there once, and says that all went well. */
function endsLast(parts: readonly AnyAnswer[]): boolean {
  const ends = parts.filter(({ type = '' }) => ENDS.has(type))
  const [end] = ends
  if (ends.length !== 1 || parts.at(-1) !== end) return false
  if (end?.response) return /^(?:completed|incomplete)$/.test(end.response.status)
  const reasons = parts.flatMap(({ delta }) =>
    typeof delta === 'object' ? (delta.stop_reason ?? []) : [],
  )
  return reasons.length === 1
}

const ENDS: ReadonlySet<string> = new Set([
  'response.completed',
  'response.incomplete',
  'message_stop',
])

/** The name that an answer calls its model by, in each part that has one. */
export const modelsIn = (answer: string): string[] =>
  partsOf(answer).flatMap(
    ({ model, response, message }) => model ?? response?.model ?? message?.model ?? [],
  )

/** The requests that generate, as a simulator saw them; probes before the first clear are not among them. */
export const generating = (sim: Sim): readonly RequestRecord[] =>
  sim.requests().filter(({ method }) => method === 'POST')

/** The record of the only request that a simulator has seen since it was cleared. */
export async function onlyRequest(sim: Sim): Promise<RequestRecord> {
  const seen = await eventually(
    () => generating(sim),
    (records) => records.length > 0,
  )
  if (seen.length > 1) throw new Error(`${seen.length} requests, not one`)
  return seen[0]!
}

export const inFlight = ({ instances }: PoolStatus): number =>
  instances.reduce((sum, instance) => sum + instance.inFlight, 0)

/**
 * Most requests of one simulator that were under way at the same moment, by its own record.
 * @param newsMs how long the news that a client has left may be on its way, in milliseconds: for that
 *   long a request that was aborted no longer counts, since its slot has been given back already
 */
export function mostAtOnce(records: readonly RequestRecord[], newsMs = 0): number {
  const steps = records
    .flatMap(({ arrivedAt, endedAt, socketClosedAt, outcome }) => {
      const end = endedAt ?? socketClosedAt ?? Infinity
      const gone = outcome === 'aborted' ? Math.max(arrivedAt, end - newsMs) : end
      return [
        { at: arrivedAt, step: 1 },
        { at: gone, step: -1 },
      ]
    })
    // Times are whole milliseconds: within one, an end is taken to come before the next beginning.
    .sort((a, b) => a.at - b.at || a.step - b.step)
  let now = 0
  let most = 0
  for (const { step } of steps) most = Math.max(most, (now += step))
  return most
}
