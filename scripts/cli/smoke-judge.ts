/** What answers of a deployed router say about what is in front of it: pure. */
import type { Answer, Piece } from './smoke-client.ts'

export interface Verdict {
  /** `not shown`: nothing is wrong as far as one can see, and the point is not proven. */
  readonly result: 'ok' | 'failed' | 'not shown'
  readonly why: string
}

export const ok = (why: string): Verdict => ({ result: 'ok', why })
export const failed = (why: string): Verdict => ({ result: 'failed', why })
export const notShown = (why: string): Verdict => ({ result: 'not shown', why })

type Head = Pick<Answer, 'status' | 'headers' | 'text'>

/** Numbered errors of Cloudflare's own, and what makes them. */
const NUMBERED: Readonly<Record<string, string>> = {
  '1006': 'an IP Access rule bans this address',
  '1009': 'an IP Access rule bans this country',
  '1010': 'Browser Integrity Check: skip it for this hostname',
  '1015': 'a rate limiting rule of the zone',
  '1016': 'the hostname has no origin: is the custom domain there?',
  '1020': 'a custom rule of the WAF blocks it',
}

/**
 * Why something in front of the router, and not the router, has answered; null where it has not.
 * The texts are those of Cloudflare's pages; `cf-mitigated` is documented for challenges.
 */
export function intruder({ status, headers, text }: Head): string | null {
  if (headers['cf-mitigated'] === 'challenge') {
    return 'challenged by Cloudflare: look at Bot Fight Mode, Super Bot Fight Mode, Under Attack mode and custom rules with a challenge'
  }
  const number = /error code: ?(1\d{3})|Error<?[^>]*>? ?(1\d{3})\b/i.exec(text)
  const code = number?.[1] ?? number?.[2]
  if (code !== undefined && status >= 400) {
    return `Cloudflare error ${code}: ${NUMBERED[code] ?? 'see its list of 1xxx errors'}`
  }
  if (status >= 300 && status < 400) {
    const isLogin = /cloudflareaccess\.com/.test(headers['location'] ?? '')
    return isLogin
      ? 'redirected to a login of Cloudflare Access: no application may cover this hostname'
      : `redirected (${status}): something in front answers`
  }
  if (!/^\s*<(?:!doctype|html)/i.test(text) && !headers['content-type']?.startsWith('text/html')) {
    return null
  }
  if (/just a moment|challenge-platform/i.test(text)) {
    return 'challenged by Cloudflare: look at Bot Fight Mode, Super Bot Fight Mode, Under Attack mode and custom rules with a challenge'
  }
  if (/attention required|you have been blocked/i.test(text)) {
    return 'blocked by Cloudflare: look at Security → Events for the rule (managed rules, custom rules, Super Bot Fight Mode)'
  }
  return `HTML with status ${status}: something in front of the router has answered`
}

/** What an answer says, as JSON; null where that is none. */
export function jsonOf(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : null
  } catch {
    return null
  }
}

/** The code of an error of the router's; null of anything else. */
export function errorIn(text: string): { readonly code: string; readonly message: string } | null {
  const { code, message } = Object(jsonOf(text)?.['error']) as Record<string, unknown>
  return typeof code === 'string' ? { code, message: String(message) } : null
}

/** Why an answer is not the one that was expected. */
export function strange(answer: Head): string {
  const error = errorIn(answer.text)
  return (
    intruder(answer) ??
    (error ? `${answer.status} ${error.code}: ${error.message}` : `status ${answer.status}`)
  )
}

export const judgeHealth = (answer: Head): Verdict =>
  answer.status === 200 && jsonOf(answer.text)?.['status'] === 'ok'
    ? ok('the router answers')
    : failed(strange(answer))

export function judgeBadKey(answer: Head): Verdict {
  if (answer.status === 401 && errorIn(answer.text)?.code === 'invalid_api_key') {
    return ok('401 invalid_api_key')
  }
  if (answer.status === 429 && errorIn(answer.text)) {
    return notShown('429: too many bad keys came from this address within the last minute')
  }
  return failed(strange(answer))
}

/** The models that a key may use; null where the answer is no list. */
export function modelsIn(answer: Head): readonly ModelCard[] | null {
  const data = jsonOf(answer.text)?.['data']
  if (answer.status !== 200 || !Array.isArray(data)) return null
  return data.map((card: Record<string, unknown>) => ({
    id: String(card['id']),
    maxModelLen: typeof card['max_model_len'] === 'number' ? card['max_model_len'] : null,
  }))
}

export interface ModelCard {
  readonly id: string
  /** Tokens of prompt and answer together; null where the router does not say. */
  readonly maxModelLen: number | null
}

export const judgeAgent = (answer: Head): Verdict =>
  modelsIn(answer) === null ? failed(strange(answer)) : ok('served as any other')

/** Fewer frames than these say nothing of how they travel. */
const FRAMES = 8
/** Milliseconds; a whole answer that is faster says nothing of that either. */
const TOO_FAST_MS = 300
/** Milliseconds between two pieces, below which they came together. */
const TOGETHER_MS = 1
/** Frames in one lump, on average, from which on something is collecting them. */
const LUMP = 8

/**
 * Whether frames came one by one. A proxy that buffers gives them out in lumps, or all at the end.
 *
 * Frames belong to one lump while the gaps between them are below a quarter of the mean gap, or of
 * {@link TOGETHER_MS}: so neither a slow model nor a late first token looks like a buffer.
 *
 * @param pieces of the body, each with its time since the question in milliseconds
 */
export function judgeSpacing(pieces: readonly Piece[]): Verdict {
  const arrivals = frameTimes(pieces)
  const total = arrivals.at(-1) ?? 0
  if (arrivals.length < FRAMES) {
    return notShown(`the answer had only ${arrivals.length} frames; a longer one would tell`)
  }
  if (total < TOO_FAST_MS) {
    return notShown(
      `all ${arrivals.length} frames came within ${round(total)} ms: too fast to tell`,
    )
  }
  const gaps = arrivals.slice(1).map((at, i) => at - (arrivals[i] ?? at))
  const span = total - (arrivals[0] ?? total)
  const apart = Math.max(TOGETHER_MS, span / gaps.length / 4)
  const lumps = 1 + gaps.filter((gap) => gap >= apart).length
  const median = [...gaps].sort((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? 0
  const figures = `median gap ${round(median)} ms, first frame after ${round(arrivals[0] ?? 0)} ms, last after ${round(total)} ms`
  if (arrivals.length / lumps < LUMP) return ok(`${arrivals.length} frames one by one: ${figures}`)
  const how = lumps === 1 ? 'at once' : `in ${lumps} lumps`
  return failed(
    `${arrivals.length} frames came ${how}: a proxy on the way buffers (a quick tunnel, an Nginx with proxy_buffering, a transforming rule); ${figures}`,
  )
}

const round = (ms: number): number => (ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms))

/** When each data frame's end came, but for the end mark and what says no more than the usage. */
export function frameTimes(pieces: readonly Piece[]): readonly number[] {
  const times: number[] = []
  let rest = ''
  for (const { at, text } of pieces) {
    const frames = (rest + text).split('\n\n')
    rest = frames.pop() ?? ''
    for (const frame of frames) if (/^data: .*"delta"/m.test(frame)) times.push(at)
  }
  return times
}

/** Whether a stream of chat ended as one does that is whole. */
export const isWhole = (text: string): boolean =>
  /^data: \[DONE\]$/m.test(text) && /"finish_reason": ?"/.test(text)

/** The receipt's headers, by what is left of their names. */
export function judgeReceipts(headers: Answer['headers']): Verdict {
  const id = headers['x-request-id']
  if (id === undefined) return failed('no x-request-id: something on the way takes headers out')
  const told = Object.keys(headers).filter((name) => name.startsWith('x-penstock-'))
  if (told.length === 0) return ok('x-request-id alone: receipts are off in this fleet')
  return ok(`x-request-id and ${told.map((name) => name.replace('x-penstock-', '')).join(', ')}`)
}
