/** Streams that were recorded from a real vLLM, frame by frame. */
import { dataOf } from '../../worker/forward/frames.ts'
import { recorded } from './core-builders.ts'

export type Json = Readonly<Record<string, unknown>>

/** The frames of a text, each whole with its empty line. */
export const framesIn = (text: string): string[] => text.match(/[^]+?\n\n/g) ?? []

/** What the data frames of a text say, the end mark left out. */
export const saidIn = (text: string): Json[] =>
  framesIn(text)
    .map((frame) => dataOf(frame))
    .filter((data) => data !== null && data !== '[DONE]')
    .map((data) => JSON.parse(data ?? '') as Json)

/** What the data frames of a recorded stream say. */
export const framesOf = (name: string): Json[] => saidIn(recorded(name).text)

/** A recorded answer in one piece. */
export const answerOf = (name: string): Json => JSON.parse(recorded(name).text) as Json

/** A value's keys in order, and the type of each leaf. */
export function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape)
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value
  return Object.entries(value).map(([key, inner]) => [key, shape(inner)])
}

/** A named event, as a frame's text. */
export const event = (said: Json): string =>
  `event: ${String(said['type'])}\ndata: ${JSON.stringify(said)}\n\n`
