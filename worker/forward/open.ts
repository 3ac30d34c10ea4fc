import { END, type Endpoint } from '../ingress/endpoints.ts'
import { parseObject, type Json } from '../json.ts'
import { FrameSplitter } from './frames.ts'
import { judge, judgeFrame, type Fault, type Naming, type Rejection } from './verdict.ts'
import { usageOf, type Usage } from './usage.ts'
import type { Watchdog } from './watchdog.ts'

/** A stream whose first content is in hand: from here on there is no other instance. */
export interface Opened {
  readonly kind: 'opened'
  /** Everything read so far, content included; nothing of it has been sent yet. */
  readonly held: readonly Uint8Array[]
  /** The rest, unlocked. */
  readonly rest: ReadableStream<Uint8Array>
}

/** A whole answer in hand, as JSON text. */
export interface Whole {
  readonly kind: 'whole'
  readonly json: string
  readonly usage: Usage | null
}

export interface Reading {
  readonly endpoint: Endpoint
  readonly naming: Naming
  readonly watchdog: Watchdog
}

/**
 * Holds the status until the first content. vLLM flushes a 200 right after admission, so a response
 * that has begun proves nothing: an error may be the first frame (L25), or nothing may come at all.
 * @throws when the connection breaks or the watchdog ends it
 */
export async function openStream(
  response: Response,
  { endpoint, naming, watchdog }: Reading,
): Promise<Opened | Rejection | Fault> {
  const notStream = await checkStream(response, naming)
  if (notStream) return notStream
  if (!response.body) return fault('an empty body')

  const splitter = new FrameSplitter()
  const held: Uint8Array[] = []
  const reader = response.body.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    held.push(read.value)
    for (const data of splitter.push(read.value)) {
      if (data === null) continue
      watchdog.heard()
      const found = opening(data, endpoint, naming)
      if (found === 'content') {
        reader.releaseLock()
        return { kind: 'opened', held, rest: response.body }
      }
      if (found === 'nothing') continue
      await readOut(reader)
      return found
    }
  }
  return fault('the stream ended before any content')
}

/**
 * Reads a stream to its end and makes of it the answer of a request that asked for none.
 * @throws when the connection breaks or the watchdog ends it
 */
export async function collect(
  response: Response,
  { endpoint, naming, watchdog }: Reading,
  request: Json,
): Promise<Whole | Rejection | Fault> {
  const notStream = await checkStream(response, naming)
  if (notStream) return notStream

  if (!response.body) return fault('an empty body')

  const splitter = new FrameSplitter()
  const frames: Json[] = []
  const reader = response.body.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    for (const data of splitter.push(read.value)) {
      if (data === null) continue
      watchdog.heard()
      if (data === END) {
        await readOut(reader)
        return whole(endpoint.assemble(frames, request))
      }
      const frame = parseObject(data)
      if (!frame) return fault('a frame that is not JSON')
      const meaning = endpoint.meaning(frame)
      if (meaning === 'error' || meaning === 'aborted') {
        await readOut(reader)
        return meaning === 'error' ? judgeFrame(frame, naming) : ABORTED
      }
      frames.push(frame)
    }
  }
  return fault('the stream ended early')
}

/** How long the end of a body may take after its last word, in milliseconds. */
const READ_OUT_MS = 500

/**
 * Reads past the end mark, or past an error, to the body's own end: left early, a body takes its
 * connection with it; never left, it stays open.
 */
async function readOut(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  const giveUp = setTimeout(() => void reader.cancel().catch(() => undefined), READ_OUT_MS)
  try {
    while (!(await reader.read()).done);
  } catch {
    // What was to be known is known already.
  }
  clearTimeout(giveUp)
}

/** For what a stream cannot carry: vLLM's own JSON, passed as it is. */
export async function readWhole(
  response: Response,
  { naming }: Pick<Reading, 'naming'>,
): Promise<Whole | Rejection | Fault> {
  const text = await response.text()
  if (response.status !== 200) return judge(response.status, text, naming)
  const body = parseObject(text)
  if (!body) return fault('a 200 that is not JSON')
  return { kind: 'whole', json: text, usage: usageOf(body) }
}

/** Anything but a 200 event stream is no stream: an error, or a page made on the way. */
async function checkStream(response: Response, naming: Naming): Promise<Rejection | Fault | null> {
  if (response.status !== 200) return judge(response.status, await response.text(), naming)
  const type = response.headers.get('content-type') ?? ''
  if (type.startsWith('text/event-stream')) return null
  await response.body?.cancel()
  return fault(`a 200 of type ${type || 'none'} where a stream was asked for`)
}

function opening(
  data: string,
  endpoint: Endpoint,
  naming: Naming,
): 'content' | 'nothing' | Rejection | Fault {
  if (data === END) return fault('the stream ended before any content')
  const frame = parseObject(data)
  if (!frame) return fault('a frame that is not JSON')
  const meaning = endpoint.meaning(frame)
  switch (meaning) {
    case 'content':
    case 'nothing':
      return meaning
    case 'error':
      return judgeFrame(frame, naming)
    case 'aborted':
      return ABORTED
  }
}

const fault = (reason: string): Fault => ({ kind: 'fault', reason, message: null })
const ABORTED = fault('the engine aborted the request')

/** Every choice must say why it ended: an end mark alone proves nothing about them. */
function whole(body: Json): Whole | Fault {
  const choices: readonly unknown[] = Array.isArray(body['choices']) ? body['choices'] : []
  const ended = choices.every((choice) => (choice as Json)['finish_reason'] !== null)
  if (choices.length === 0 || !ended) return fault('the stream ended without a finish_reason')
  return { kind: 'whole', json: JSON.stringify(body), usage: usageOf(body) }
}
