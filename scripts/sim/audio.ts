/** `/v1/audio/transcriptions` and `/translations`: the form, what is heard in it, the wire format. */
import { cachedDetails, DONE, errorThenDone, frame, textOf, usageOf } from './answer.ts'
import type { AnswerContext, Encoder, Output } from './answer.ts'
import { isObject, numberAt, textAt, type Body } from './body.ts'
import { errorReply, type Reply } from './reply.ts'
import { endToken, prose, type ScriptChoice } from './script.ts'
import { encode, hashText, mix, random } from './tokenizer.ts'

/** Largest file vLLM takes, in MiB. */
const MOST_MIB = 25
/** Tokens of a Whisper encoder for one second. */
const AUDIO_TOKENS_PER_SECOND = 50
/** Roughly what a second of speech says. */
export const SAID_PER_SECOND = 2.5
/** 16-bit mono at 16 kHz: what a file without a readable header is taken for. */
export const BYTES_PER_SECOND = 32_000

/** A file of a form, and what a test sees of it in the record. */
export interface FormFile {
  readonly name: string
  readonly type: string
  readonly size: number
  readonly bytes: Uint8Array
}

const NUMBERS: readonly string[] = ['max_completion_tokens', 'temperature', 'seed', 'top_p']
const BOOLEANS: readonly string[] = [
  'stream',
  'stream_include_usage',
  'stream_continuous_usage_stats',
]

/** A form as FastAPI reads it: text fields that stand for numbers and booleans are those. */
export async function readForm(bytes: Uint8Array<ArrayBuffer>, type: string): Promise<Body> {
  const form = await new Response(bytes, { headers: { 'content-type': type } }).formData()
  const body: Record<string, unknown> = {}
  for (const [name, value] of form) {
    if (typeof value !== 'string') {
      const content = new Uint8Array(await value.arrayBuffer())
      body[name] = { name: value.name, type: value.type, size: value.size, bytes: content }
    } else if (NUMBERS.includes(name) && value.trim() !== '' && Number.isFinite(Number(value))) {
      body[name] = Number(value)
    } else if (BOOLEANS.includes(name) && /^(true|false|1|0|on|off|yes|no)$/i.test(value)) {
      body[name] = /^(true|1|on|yes)$/i.test(value)
    } else {
      body[name] = value
    }
  }
  return body
}

/** A form for the record: files by their name and size alone. */
export const withoutBytes = (body: Body): Body =>
  Object.fromEntries(
    Object.entries(body).map(([name, value]) => {
      if (!isFile(value)) return [name, value]
      return [name, { name: value.name, type: value.type, size: value.size }]
    }),
  )

const isFile = (value: unknown): value is FormFile =>
  isObject(value) && value['bytes'] instanceof Uint8Array

/** What is wrong with a form beyond its fields; null when nothing is. */
export function refuseAudio(body: Body): Reply | null {
  const file = body['file']
  if (!isFile(file)) {
    const said = "Expected 'file' to be a file-like object, not 'str'."
    return errorReply(said, 'Unprocessable Entity', null, 422)
  }
  const refuse = (message: string, param: string | null): Reply =>
    errorReply(message, 'BadRequestError', param, 400)
  const format = textAt(body, 'response_format') ?? 'json'
  if (!['text', 'json', 'verbose_json'].includes(format)) {
    return refuse('Currently only support response_format: `text`, `json` or `verbose_json`', null)
  }
  if (format === 'verbose_json' && body['stream'] === true) {
    return refuse("verbose_json format doesn't support streaming case", null)
  }
  const size = file.size / 1024 ** 2
  if (size > MOST_MIB) {
    const where = `(parameter=audio_filesize_mb, value=${size})`
    return refuse(`Maximum file size exceeded ${where}`, 'audio_filesize_mb')
  }
  return file.size === 0 ? refuse('Invalid or unsupported audio file.', null) : null
}

/** Seconds of a WAV file by its header; of anything else by its size. */
export function durationOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const isWav = bytes.length >= 44 && view.getUint32(0) === 0x52494646
  const rate = isWav ? view.getUint32(28, true) : BYTES_PER_SECOND
  return (isWav ? bytes.length - 44 : bytes.length) / Math.max(1, rate)
}

/** What the model hears: made up, and the same for the same bytes, form prompt and seed. */
export function transcriptOf(
  body: Body,
  options: { readonly seed: number; readonly maxModelLen: number },
): { readonly choice: ScriptChoice; readonly seconds: number } {
  const file = body['file']
  const bytes = isFile(file) ? file.bytes : new Uint8Array()
  const seconds = durationOf(bytes)
  const heard = hashText(Buffer.from(bytes).toString('latin1'))
  const hint = encode(textAt(body, 'prompt') ?? '')
  const most = Math.floor(options.maxModelLen / 2)
  const audio = Math.min(most, Math.ceil(seconds * AUDIO_TOKENS_PER_SECOND))
  const ids = [...hint, ...Array.from({ length: audio }, (_, i) => mix(heard, i) % 50_000)]
  const next = random(mix(heard, numberAt(body, 'seed') ?? options.seed))
  const spoken = Math.max(4, Math.ceil(seconds * SAID_PER_SECOND))
  const limit = Math.max(1, Math.min(numberAt(body, 'max_completion_tokens') ?? most, most))
  const tokens = [...prose(next, 'content', spoken), endToken()].slice(0, limit)
  const choice = {
    index: 0,
    prompt: { text: textAt(body, 'prompt') ?? '', ids },
    tokens,
    finishReason: tokens.at(-1)?.kind === 'end' ? ('stop' as const) : ('length' as const),
    stopReason: null,
    calls: [],
  }
  return { choice, seconds }
}

/** @param seconds how long the audio is */
export function audioEncoder(
  task: 'transcription' | 'translation',
  body: Body,
  seconds: number,
  context: AnswerContext,
): Encoder {
  const includeUsage = body['stream_include_usage'] === true
  const continuous = includeUsage && body['stream_continuous_usage_stats'] === true
  const head = {
    id: context.id,
    object: `${task}.chunk`,
    created: context.created,
    model: textAt(body, 'model') ?? context.model,
  }
  const usage = (outputs: readonly Output[]) => {
    const { prompt, completion, cached } = usageOf(outputs)
    const cache = cachedDetails(context, cached)
    return {
      prompt_tokens: prompt,
      total_tokens: prompt + completion,
      completion_tokens: completion,
      ...(cache === null ? {} : { prompt_tokens_details: cache }),
    }
  }
  const chunk = (output: Output, delta: string, count: number, isLast: boolean): string => {
    const stop = output.finish === 'stop' ? output.choice.stopReason : null
    const end = isLast ? { finish_reason: output.finish, stop_reason: stop } : {}
    const counts = continuous ? { usage: usage([{ ...output, count }]) } : {}
    return frame(
      JSON.stringify({ ...head, choices: [{ delta: { content: delta }, ...end }], ...counts }),
    )
  }

  return {
    open: () => [],
    tokens(output, from, to) {
      const frames: string[] = []
      for (let at = from; at < to; at++) {
        const isLast = output.finish !== null && at === output.count - 1
        const delta = output.choice.tokens[at]?.delta ?? ''
        if (delta !== '' || isLast) frames.push(chunk(output, delta, at + 1, isLast))
      }
      if (output.finish === 'abort') frames.push(chunk(output, '', output.count, true))
      return frames
    },
    error: errorThenDone,
    close(outputs) {
      if (!includeUsage) return [DONE]
      return [frame(JSON.stringify({ ...head, choices: [], usage: usage(outputs) })), DONE]
    },
    whole(outputs) {
      const [output] = outputs
      const text =
        output === undefined ? '' : textOf(output.choice, output.count, ['content', 'end'])
      if (textAt(body, 'response_format') === 'verbose_json') {
        return JSON.stringify(verbose(body, text, seconds, output))
      }
      const duration = { type: 'duration', seconds: Math.ceil(seconds) }
      return JSON.stringify(task === 'transcription' ? { text, usage: duration } : { text })
    },
  }
}

/** `verbose_json`: one segment for the whole. */
const verbose = (body: Body, text: string, seconds: number, output: Output | undefined) => ({
  duration: String(seconds),
  language: textAt(body, 'language') ?? 'en',
  text,
  segments: [
    {
      id: 0,
      avg_logprob: -0.3,
      compression_ratio: 1.2,
      end: seconds,
      no_speech_prob: null,
      seek: 0,
      start: 0,
      temperature: numberAt(body, 'temperature') ?? 0,
      text,
      tokens: output?.choice.tokens.slice(0, output.count).map(({ id }) => id) ?? [],
    },
  ],
  words: null,
})
