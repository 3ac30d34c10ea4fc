import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import {
  createContextKey,
  type ContextKey,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect'
import { notFound, type Ctx } from '../entrance.ts'
import type { Call } from '../ingress/call.ts'
import { ENDPOINTS } from '../ingress/endpoints.ts'
import { parseObject, type Json } from '../json.ts'
import { receiptHeaders } from '../receipt.ts'
import type { Asking } from '../serve.ts'
import { chatBody, completionBody, embedBody } from './body.ts'
import { connectErrorOf, errorOfAnswer, metadataOf } from './errors.ts'
import { framesOf } from './frames.ts'
import {
  ChatCompletionChunkSchema,
  CompletionChunkSchema,
  EmbedResponseSchema,
  ListModelsResponseSchema,
  type Inference,
} from './gen/penstock/v1/inference_pb.ts'
import { messageOf, withReasoning } from './messages.ts'

/** One RPC on its way: the HTTP request around it, and what is known of it by now. */
export interface Exchange {
  readonly c: Ctx
  /** Size of the request's body, in bytes; final once the message is there. */
  bytes: number
  /** Whether its body is being read: the path is known, and the key is a genuine one. */
  admitted: boolean
  /** Whether its body was a message of the RPC. */
  understood: boolean
}

/** The ways of the HTTP API, which RPCs take as well. */
export interface ServiceDeps {
  /** @throws Refusal */
  readonly answer: (c: Ctx, asking: Asking) => Promise<Response>
  /** @throws Refusal */
  readonly listModels: (c: Ctx) => Promise<Response>
  /** @throws Refusal `invalid_value` */
  readonly callOf: (body: Json, bytes: number) => Call
  readonly log: (message: string, cause: unknown) => void
}

/** Where handlers find the exchange; never unset, since `connect.ts` fills it in for each request. */
export const exchangeKey: ContextKey<Exchange | null> = createContextKey<Exchange | null>(null)

/** `penstock.v1.Inference`: each RPC is a request of the HTTP API in other words. */
export function inferenceOver(deps: ServiceDeps): ServiceImpl<typeof Inference> {
  return {
    chatCompletion: (request, context) =>
      stream(deps, context, {
        path: '/v1/chat/completions',
        body: () => chatBody(request),
        chunk: (frame) => messageOf(ChatCompletionChunkSchema, withReasoning(frame)),
        keepAlive: ChatCompletionChunkSchema,
      }),
    completion: (request, context) =>
      stream(deps, context, {
        path: '/v1/completions',
        body: () => completionBody(request),
        chunk: (frame) => messageOf(CompletionChunkSchema, frame),
        keepAlive: CompletionChunkSchema,
      }),
    embed: (request, context) =>
      unary(deps, context, EmbedResponseSchema, (exchange) =>
        ask(deps, context, exchange, { path: '/v1/embeddings', body: () => embedBody(request) }),
      ),
    listModels: (_, context) =>
      unary(deps, context, ListModelsResponseSchema, ({ c }) => deps.listModels(c)),
  }
}

interface Asked {
  readonly path: string
  readonly body: () => Json
}

interface Streamed<Desc extends DescMessage> extends Asked {
  readonly chunk: (frame: Json) => MessageShape<Desc>
  /** What an empty message is made of: sent for a comment, it keeps the line open as the comment did. */
  readonly keepAlive: Desc
}

async function* stream<Desc extends DescMessage>(
  deps: ServiceDeps,
  context: HandlerContext,
  asked: Streamed<Desc>,
): AsyncGenerator<MessageShape<Desc>, void> {
  const exchange = exchangeOf(context)
  try {
    const answer = await ask(deps, context, exchange, asked)
    if (!answer.ok) throw await errorOfAnswer(answer)
    tell(context, answer)
    for await (const frame of framesOf(answer.body, context.signal)) {
      yield frame === null ? messageOf(asked.keepAlive, {}) : asked.chunk(frame)
    }
    // The headers may have gone out before it was known who would answer; what ends the stream knows.
    for (const [name, value] of receiptHeaders(exchange.c.get('receipt'))) {
      context.responseTrailer.set(name, value)
    }
  } catch (error) {
    throw connectErrorOf(error, failing(deps, context, exchange))
  }
}

async function unary<Desc extends DescMessage>(
  deps: ServiceDeps,
  context: HandlerContext,
  schema: Desc,
  send: (exchange: Exchange) => Promise<Response>,
): Promise<MessageShape<Desc>> {
  const exchange = exchangeOf(context)
  try {
    const answer = await send(exchange)
    if (!answer.ok) throw await errorOfAnswer(answer)
    tell(context, answer)
    return messageOf(schema, parseObject(await answer.text()) ?? {})
  } catch (error) {
    throw connectErrorOf(error, failing(deps, context, exchange))
  }
}

/** Sends the request on the way that HTTP requests take. */
function ask(
  { answer, callOf }: ServiceDeps,
  { requestHeader: headers, signal }: HandlerContext,
  { c, bytes }: Exchange,
  { path, body }: Asked,
): Promise<Response> {
  const endpoint = ENDPOINTS.find((candidate) => candidate.path === path)
  if (!endpoint) throw notFound(c)
  const read = async () => callOf(body(), bytes)
  return answer(c, { endpoint, read, headers, signal, receipt: c.get('receipt') })
}

/** What the answer's headers say goes ahead of the first message. */
function tell({ responseHeader }: HandlerContext, { headers }: Response): void {
  for (const [name, value] of metadataOf(headers)) responseHeader.set(name, value)
}

function exchangeOf({ values }: HandlerContext): Exchange {
  const exchange = values.get(exchangeKey)
  if (!exchange) throw new Error('a handler without its exchange')
  exchange.understood = true
  return exchange
}

const failing = ({ log }: ServiceDeps, { signal }: HandlerContext, { c }: Exchange) => ({
  receipt: c.get('receipt'),
  signal,
  log,
})
