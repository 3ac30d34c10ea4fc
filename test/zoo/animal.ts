/** One part of one client, with what it can do and what it must have heard. */
import { embeddingsReply } from '../../scripts/sim/embeddings.ts'
import { isObject, type Body } from '../../scripts/sim/body.ts'
import { promptsOf } from '../../scripts/sim/prompt.ts'
import { simScript } from '../../scripts/sim/script.ts'
import { transcriptOf } from '../../scripts/sim/audio.ts'
import type { Ask, Door, Said } from './client.ts'
import { AUDIO } from './openai.ts'

export interface Animal {
  readonly name: string
  readonly say: (door: Door, ask: Ask) => Promise<Said>
  /** Whether it shows the headers of an answer. */
  readonly receipts: boolean
  /** Whether its errors have room for our codes. */
  readonly codes: boolean
  readonly streams: boolean
  /** Whether it can have an answer in one piece; default true. */
  readonly wholes?: boolean
  readonly tools: boolean
  readonly schema: boolean
  /** Whether it tells of usage: of an answer in one piece, of a stream. */
  readonly usage: { readonly whole: boolean; readonly stream: 'asked' | 'always' | 'never' }
  readonly truth: (body: Body) => Truth
  /** What vLLM says to a request that it refuses; null where the client sends none such. */
  readonly refusal: { readonly code: string; readonly words: RegExp } | null
}

/** What the engine says to a body, to its last token. */
export interface Truth {
  readonly text: string
  readonly calls: Said['calls']
}

const TOO_LONG = {
  code: 'context_length_exceeded',
  words: /maximum context length is 8192 tokens.*requested 8192 output tokens/s,
}

/** Parts that generate text, by what is true of all of them. */
const GENERATES = {
  receipts: true,
  codes: true,
  streams: true,
  tools: true,
  schema: true,
  usage: { whole: true, stream: 'asked' },
  truth: generated,
  refusal: TOO_LONG,
} as const

/** One document for an answer: there is nothing to stream, to call or to cut. */
const COMPUTES = {
  receipts: true,
  codes: true,
  streams: false,
  tools: false,
  schema: false,
  usage: { whole: true, stream: 'never' },
  refusal: { code: 'invalid_value', words: /valid integer/ },
} as const

/** What each endpoint can do, whichever client speaks to it. */
export const KINDS = {
  chat: GENERATES,
  // Neither tools nor a response format belong to this older API.
  completions: { ...GENERATES, tools: false, schema: false },
  responses: { ...GENERATES, usage: { whole: true, stream: 'always' } },
  // Anthropic's own way to ask for a schema is none that vLLM reads.
  messages: {
    ...GENERATES,
    codes: false,
    schema: false,
    usage: { whole: true, stream: 'always' },
  },
  embeddings: { ...COMPUTES, truth: embedded },
  counting: { ...COMPUTES, codes: false, usage: { whole: false, stream: 'never' }, truth: counted },
  transcriptions: {
    ...GENERATES,
    tools: false,
    schema: false,
    usage: { whole: false, stream: 'asked' }, // in one piece it tells seconds, not tokens
    truth: transcribed,
    refusal: { code: 'invalid_value', words: /only support response_format/ },
  },
} as const satisfies Readonly<Record<string, Omit<Animal, 'name' | 'say'>>>

/** A helper of a client's that streams and nothing else, and shows no headers. */
export const HELPER = { receipts: false, wholes: false } as const

function generated(body: Body): Truth {
  const [choice] = simScript(body)
  const textOf = (kinds: readonly string[], call = -1): string =>
    choice!.tokens
      .filter((token) => kinds.includes(token.kind) && token.call === call)
      .map(({ delta }) => delta)
      .join('')
  return {
    text: textOf(['content', 'end']),
    calls: choice!.calls.map(({ name }, call) => ({
      name,
      args: JSON.parse(textOf(['arguments'], call)) as unknown,
    })),
  }
}

function embedded(body: Body): Truth {
  const { reply } = embeddingsReply({ ...body, encoding_format: 'float' }, '', '')
  const { data } = JSON.parse(reply.body) as { data: { embedding: number[] }[] }
  return { text: JSON.stringify(data[0]!.embedding.map((x) => x.toFixed(5))), calls: [] }
}

function counted(body: Body): Truth {
  return { text: String(promptsOf(body)[0]!.ids.length), calls: [] }
}

function transcribed(body: Body): Truth {
  const sent = body['file']
  const file = isObject(sent) && sent['size'] === AUDIO.length ? { ...sent, bytes: AUDIO } : sent
  const { choice } = transcriptOf({ ...body, file }, { seed: 0, maxModelLen: 8_192 })
  return { text: choice.tokens.map(({ delta }) => delta).join(''), calls: [] }
}
