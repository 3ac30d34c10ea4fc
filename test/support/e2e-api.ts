/** Tenants' requests and what the tests read out of answers, the same for every endpoint. */
import { createParser } from 'eventsource-parser'
import OpenAI from 'openai'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { eventually } from './e2e-wait.ts'
import type { Stack } from './stack.ts'

export type Fields = Readonly<Record<string, unknown>>

/** The official SDK, told not to retry: a test wants to see the first answer. */
export const sdk = (
  { url, apiKey }: Pick<Stack, 'url' | 'apiKey'>,
  { path = '/v1', key = apiKey }: { path?: string; key?: string } = {},
): OpenAI => new OpenAI({ baseURL: url + path, apiKey: key, maxRetries: 0, timeout: 30_000 })

/** A prompt in each endpoint's own words. A new endpoint fails every test until it has one. */
const PROMPTS: Readonly<Record<string, (text: string) => Fields>> = {
  '/v1/chat/completions': (text) => ({ messages: [{ role: 'user', content: text }] }),
  '/v1/completions': (text) => ({ prompt: text }),
}

/** Every endpoint of the router, with a way to ask it something. */
export const TABLE = ENDPOINTS.map(({ path }) => ({
  path,
  body(model: string, text: string, fields: Fields = {}): Fields {
    const prompt = PROMPTS[path]
    if (!prompt) throw new Error(`write down how ${path} is asked`)
    return { model, ...prompt(text), ...fields }
  },
}))

export const keyOf = ({ apiKey }: Pick<Stack, 'apiKey'>) => ({ authorization: `Bearer ${apiKey}` })

/** The data of each whole event of a stream; comments and an unfinished last event are left out. */
export function eventsOf(text: string): string[] {
  const events: string[] = []
  const parser = createParser({ onEvent: ({ data }) => events.push(data) })
  parser.feed(text)
  return events
}

interface AnyChoice {
  readonly index: number
  readonly text?: string
  readonly delta?: { readonly content?: string | null }
  readonly message?: { readonly content: string | null }
  readonly finish_reason?: string | null
}

export interface AnyAnswer {
  readonly choices?: readonly AnyChoice[]
  readonly error?: { readonly code: unknown; readonly message: string }
}

/** Text of the first choice, out of an answer of either kind. */
export function textIn(answer: string): string {
  const parts = answer.startsWith('{') ? [answer] : eventsOf(answer).filter((it) => it !== '[DONE]')
  return parts
    .map((json) => {
      const choice = (JSON.parse(json) as AnyAnswer).choices?.find(({ index }) => index === 0)
      return choice?.text ?? choice?.delta?.content ?? choice?.message?.content ?? ''
    })
    .join('')
}

/** Whether a stream ended as one does that is whole: one reason to finish, one end mark, last. */
export function isWhole(stream: string): boolean {
  const events = eventsOf(stream)
  const reasons = events.flatMap((json) =>
    json === '[DONE]'
      ? []
      : ((JSON.parse(json) as AnyAnswer).choices ?? []).flatMap((c) => c.finish_reason ?? []),
  )
  return (
    reasons.length === 1 &&
    events.indexOf('[DONE]') === events.length - 1 &&
    stream.endsWith('\n\n')
  )
}

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
