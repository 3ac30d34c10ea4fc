/**
 * What is asked and what must come back: a streamed chat whose shape the request itself names, so that
 * upstream and client agree on it whatever lies between them.
 */

/** How one answer is streamed. */
export interface Order {
  /** Frames of JSON: a role, the content, a finish reason, the usage. At least 4. `[DONE]` comes on top. */
  readonly frames: number
  /** Milliseconds between two content frames; 0: as fast as they can be written. */
  readonly everyMs: number
}

/** What the upstream calls itself behind a URL, and behind a site: public names as well, so that nothing is edited. */
export const MODEL = 'bench'
export const SITE_MODEL = 'bench-site'
/** Second public names for them: what the tenant asked by must stand in every frame. */
export const ALIAS = 'bench-by-another-name'
export const SITE_ALIAS = 'bench-site-by-another-name'
export const END_MARK = 'data: [DONE]\n\n'
/** Found in a frame that carries text, and not in the role-only frame before it. */
export const CONTENT_MARK = '"content":" '

/** Frames of an answer to `order`, `[DONE]` included. */
export const framesOf = (order: Order): number => order.frames + 1

/** The body of a chat request for `order`; it travels as the prompt, which every hop passes on. */
export const chatBody = (model: string, order: Order): string =>
  JSON.stringify({
    model,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: order.frames,
    messages: [{ role: 'user', content: JSON.stringify(order) }],
  })

/** @throws where the body is not one of {@link chatBody}'s */
export function orderIn(body: string): Order & { readonly model: string } {
  const { model, messages } = JSON.parse(body) as {
    model: string
    messages: readonly { content: string }[]
  }
  const [message] = messages
  if (!message) throw new Error('a chat without a message')
  return { ...(JSON.parse(message.content) as Order), model }
}

const chunk = (choices: string, usage = ''): string =>
  `data: {"id":"chatcmpl-01","object":"chat.completion.chunk","created":1750000000,` +
  `"model":"${MODEL}","choices":[${choices}]${usage}}\n\n`

const choice = (delta: string, finish: string): string =>
  `{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${finish}`

/** The frames of an answer, as vLLM writes them when it is asked for token ids, as the router does. */
export const FRAMES = {
  role: chunk(
    `${choice('{"role":"assistant","content":""}', 'null')}}`,
    ',"prompt_token_ids":[9707,11,1879,0,358,1079,264,8]',
  ),
  content: chunk(`${choice('{"content":" to"}', 'null')},"token_ids":[311]}`),
  finish: chunk(`${choice('{"content":""}', '"stop"')},"stop_reason":null,"token_ids":[2]}`),
  usage: (order: Order): string =>
    chunk(
      '',
      `,"usage":{"prompt_tokens":8,"total_tokens":${order.frames + 5},"completion_tokens":${order.frames - 3}}`,
    ),
} as const

/** A frame as another model's. */
export const framedAs = (frame: string, model: string): string =>
  frame.replace(`"model":"${MODEL}"`, `"model":"${model}"`)
