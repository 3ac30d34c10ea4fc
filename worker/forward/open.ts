import { END, type Dialect, type Meaning, type Tokens } from '../dialects/dialect.ts'
import { usageOfAnswer } from '../dialects/usage.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import { parseObject, type Json } from '../json.ts'
import { Collected } from './collected.ts'
import { editedWhole, presented, type Presentation } from './edits.ts'
import { dataOf, FrameSplitter } from './frames.ts'
import { judge, judgeFrame, type Fault, type Naming, type Rejection } from './verdict.ts'
import type { Watchdog } from './watchdog.ts'
import type { Witness } from './witness.ts'

/** A stream whose first content, or whose end, is in hand: from here on there is no other instance. */
export interface Opened {
  readonly kind: 'opened'
  /** The frames so far; witnessed, but nothing of it has been sent yet. */
  readonly held: readonly string[]
  /** The data frames of `held`, parsed. */
  readonly opening: readonly Json[]
  /** Frames that came in one piece with the first content. */
  readonly ahead: readonly string[]
  /** Has the beginning of a frame that is not whole yet. */
  readonly splitter: FrameSplitter
  /** The rest, unlocked. */
  readonly rest: ReadableStream<Uint8Array>
  /** The answer is over, ended by the engine itself, and had no content where there should be some. */
  readonly empty: boolean
}

/** A whole answer in hand. */
export interface Whole {
  readonly kind: 'whole'
  readonly body: string | ArrayBuffer
  readonly contentType: string
  /** What it says it used. */
  readonly tokens: Tokens | null
  /** The engine has ended it by itself, and it has no content where there should be some. */
  readonly empty: boolean
}

export interface Reading {
  readonly endpoint: Endpoint
  readonly naming: Naming
  readonly presentation: Presentation
  readonly watchdog: Watchdog
}

export interface StreamReading extends Reading {
  readonly dialect: Dialect
  readonly witness: Witness
  /** Called once, at the first content; never where there is none. */
  readonly onContent: () => void
}

/**
 * Holds the status until the first content, or the end of an answer that has none. vLLM flushes a 200
 * right after admission, so a response that has begun proves nothing: an error may be the first frame
 * (L25), or nothing may come at all.
 * @throws when the connection breaks or the watchdog ends it
 */
export async function openStream(
  response: Response,
  reading: StreamReading,
): Promise<Opened | Rejection | Fault> {
  const notStream = await checkStream(response, reading.naming)
  if (notStream) return notStream
  if (!response.body) return fault('an empty body')

  const splitter = new FrameSplitter()
  const held: string[] = []
  const opening: Json[] = []
  let over = false
  const reader = response.body.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const frames = splitter.push(read.value)
    for (const [at, frame] of frames.entries()) {
      held.push(frame)
      if (!reading.witness.see(frame)) continue
      reading.watchdog.heard()
      const found = openingOf(frame, reading, opening, over)
      over ||= found === 'over'
      if (found === 'nothing' || found === 'over') continue
      if (typeof found === 'object') {
        await readOut(reader)
        return found
      }
      reader.releaseLock()
      if (found === 'content') reading.onContent()
      return {
        kind: 'opened',
        held,
        opening,
        ahead: frames.slice(at + 1),
        splitter,
        rest: response.body,
        empty: found === 'end' && isBlank(reading.dialect, opening),
      }
    }
  }
  return fault('the stream ended before any content')
}

/** @param frames all data frames of an answer that is over */
function isBlank({ isBlank: judges, assemble }: Dialect, frames: readonly Json[]): boolean {
  const answer = assemble?.(frames, {}) ?? null
  return answer !== null && (judges?.(answer) ?? false)
}

/** @param over whether a frame before has said why the answer is over */
function openingOf(
  frame: string,
  { dialect, naming }: StreamReading,
  opening: Json[],
  over: boolean,
): Exclude<Meaning, 'error' | 'aborted'> | Rejection | Fault {
  const data = dataOf(frame)
  if (data === END) return over ? 'end' : fault('the stream ended before any content')
  const said = parseObject(data ?? '')
  if (!said) return fault('a frame that is not JSON')
  opening.push(said)
  const meaning = dialect.meaning(said)
  switch (meaning) {
    case 'content':
    case 'over':
    case 'end': // an answer may be empty
    case 'nothing':
      return meaning
    case 'error':
      return judgeFrame(said, naming)
    case 'aborted':
      return ABORTED
  }
}

/**
 * Reads a stream to its end and makes of it the answer of a request that asked for none.
 * @throws when the connection breaks or the watchdog ends it
 */
export async function collect(
  response: Response,
  { dialect, witness, naming, presentation, watchdog, onContent }: StreamReading,
  request: Json,
): Promise<Whole | Rejection | Fault> {
  const notStream = await checkStream(response, naming)
  if (notStream) return notStream
  if (!response.body) return fault('an empty body')

  const splitter = new FrameSplitter()
  const collected = new Collected(presentation)
  let begun = false
  let unfinished = 0
  const reader = response.body.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const frames = splitter.push(read.value)
    unfinished = frames.length > 0 ? 0 : unfinished + read.value.byteLength
    for (const frame of frames) {
      if (!witness.see(frame)) continue
      watchdog.heard()
      const data = dataOf(frame)
      const said = data === END ? null : parseObject(data ?? '')
      if (said) collected.add(said, frame.length)
      else if (data !== END) return fault('a frame that is not JSON')
      if (!begun && said && dialect.meaning(said) === 'content') {
        begun = true
        onContent()
      }

      if (witness.proof === 'cut') continue
      await readOut(reader)
      if (witness.proof === 'aborted') return ABORTED
      if (witness.proof === 'failed') return judgeFrame(said ?? {}, naming)
      const body = dialect.assemble?.(collected.frames, request)
      if (!body) return fault('the stream ended without a finish_reason')
      return {
        kind: 'whole',
        body: JSON.stringify(presented(body, presentation)),
        contentType: JSON_TYPE,
        tokens: usageOfAnswer(body),
        empty: dialect.isBlank?.(body) ?? false,
      }
    }
    if (!collected.fits(unfinished)) {
      void reader.cancel().catch(() => undefined)
      return TOO_LONG
    }
  }
  return fault('the stream ended early')
}

/** For what a stream cannot carry: vLLM's own answer, the model's name put right. */
export async function readWhole(
  response: Response,
  { endpoint, naming, presentation }: Reading,
): Promise<Whole | Rejection | Fault> {
  if (response.status !== 200) return judge(response.status, await response.text(), naming)
  const contentType = response.headers.get('content-type') ?? ''
  const mayBeText = endpoint.dialect === null || endpoint.dialect.assemble === null
  if (mayBeText && OPAQUE.test(contentType)) {
    // Subtitles and plain text of a transcription; embeddings as bytes. There is no name in them.
    const body = await response.arrayBuffer()
    return { kind: 'whole', body, contentType, tokens: null, empty: false }
  }
  const text = await response.text()
  const parsed = parseObject(text)
  if (!parsed) return fault('a 200 that is not JSON')
  return {
    kind: 'whole',
    body: editedWhole(text, parsed, presentation),
    contentType: JSON_TYPE,
    tokens: usageOfAnswer(parsed),
    empty: endpoint.dialect?.isBlank?.(parsed) ?? false,
  }
}

const TOO_LONG: Rejection = {
  kind: 'rejection',
  status: 400,
  message: 'The answer is too long to be given in one piece. Ask for it with "stream": true.',
  type: 'invalid_request_error',
  param: 'stream',
  code: 'unsupported_value',
}

const JSON_TYPE = 'application/json'
/** HTML is never an answer: a proxy on the way made it (L35). */
const OPAQUE = /^(?:text\/(?:plain|vtt|srt)|application\/(?:octet-stream|x-subrip))\b/i

/** How long the end of a body may take after its last word, in milliseconds. */
const READ_OUT_MS = 500

/**
 * Reads past the end mark, or past an error, to the body's own end: left early, a body takes its
 * connection with it; never left, it stays open.
 */
export async function readOut(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  const giveUp = setTimeout(() => void reader.cancel().catch(() => undefined), READ_OUT_MS)
  try {
    while (!(await reader.read()).done);
  } catch {
    // What was to be known is known already.
  }
  clearTimeout(giveUp)
}

/** Anything but a 200 event stream is no stream: an error, or a page made on the way. */
async function checkStream(response: Response, naming: Naming): Promise<Rejection | Fault | null> {
  if (response.status !== 200) return judge(response.status, await response.text(), naming)
  const type = response.headers.get('content-type') ?? ''
  if (type.startsWith('text/event-stream')) return null
  return fault(`a 200 of type ${type || 'none'} where a stream was asked for`)
}

const fault = (reason: string): Fault => ({ kind: 'fault', reason, message: null })
const ABORTED = fault('the engine aborted the request')
