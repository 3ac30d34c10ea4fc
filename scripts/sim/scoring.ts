/** `/rerank` and `/score`: how well texts fit a query, by the words they share. */
import { isObject, listAt, numberAt, textAt, type Body } from './body.ts'
import { json, errorReply, type Reply } from './reply.ts'
import { encode, hashText } from './tokenizer.ts'
import { scoredPair } from './validate.ts'

interface Judged {
  readonly reply: Reply
  readonly promptTokens: number
}

/** Text of an input: a string, or an object of content parts. */
function textOf(input: unknown): string {
  if (typeof input === 'string') return input
  if (!isObject(input)) return ''
  const parts = listAt(input, 'content').filter(isObject)
  return parts.map((part) => textAt(part, 'text') ?? JSON.stringify(part)).join('\n')
}

const asList = (input: unknown): readonly unknown[] => (Array.isArray(input) ? input : [input])

const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu))

/** From 0 to 1: the share of the query's words that the text has, and a trace of its hash. */
function relevance(query: string, text: string): number {
  const asked = words(query)
  const shared = [...asked].filter((word) => words(text).has(word)).length
  const trace = (hashText(`${query}\n${text}`) % 1000) / 100_000
  return Math.min(1, (asked.size === 0 ? 0 : (0.98 * shared) / asked.size) + trace)
}

const tokensOf = (query: string, text: string): number => encode(query).length + encode(text).length

/** The answer of `/rerank`: best first, at most `top_n`. */
export function rerankReply(body: Body, id: string, model: string): Judged {
  const query = textOf(body['query'])
  const documents = asList(body['documents'])
  const results = documents.map((document, index) => ({
    index,
    document: isObject(document)
      ? { text: null, multi_modal: document['content'] ?? [] }
      : { text: textOf(document), multi_modal: null },
    relevance_score: relevance(query, textOf(document)),
  }))
  const sorted = results.toSorted((a, b) => b.relevance_score - a.relevance_score)
  const top = numberAt(body, 'top_n') ?? 0
  const tokens = documents.reduce<number>((sum, one) => sum + tokensOf(query, textOf(one)), 0)
  const usage = { prompt_tokens: tokens, total_tokens: tokens }
  return {
    reply: json({ id, model, usage, results: top > 0 ? sorted.slice(0, top) : sorted }),
    promptTokens: tokens,
  }
}

/** The answer of `/score`: one text against many, or pairs. */
export function scoreReply(body: Body, id: string, model: string): Judged {
  const [first, second] = scoredPair(body) ?? [[], []]
  const left = asList(first).map(textOf)
  const right = asList(second).map(textOf)
  if (left.length !== right.length && left.length !== 1) {
    const rule = 'Input lengths must be either 1:1, 1:N or N:N'
    return { reply: errorReply(rule, 'BadRequestError', null, 400), promptTokens: 0 }
  }
  const pairs = right.map((text, i) => [left.length === 1 ? left[0] : left[i], text] as const)
  const data = pairs.map(([query = '', text], index) => ({
    index,
    object: 'score',
    score: relevance(query, text),
  }))
  const tokens = pairs.reduce((sum, [query = '', text]) => sum + tokensOf(query, text), 0)
  return {
    reply: json({
      id,
      object: 'list',
      created: Math.floor(Date.now() / 1000),
      model,
      data,
      usage: {
        prompt_tokens: tokens,
        total_tokens: tokens,
        completion_tokens: 0,
        prompt_tokens_details: null,
      },
    }),
    promptTokens: tokens,
  }
}
