/** Requests that generate: refused, or handed to the engine in their endpoint's wire format. */
import type { AnswerContext, Encoder } from './answer.ts'
import { textAt, type Body } from './body.ts'
import { chatEncoder } from './chat.ts'
import { completionEncoder } from './completions.ts'
import { embeddingsReply } from './embeddings.ts'
import { count, finish, header, type Exchange, type SimContext } from './exchange.ts'
import type { Fault } from './faults.ts'
import { Generation } from './generation.ts'
import { hexId } from './ids.ts'
import { messagesEncoder } from './messages.ts'
import { promptsOf, thinkingAsked } from './prompt.ts'
import { json, type Reply } from './reply.ts'
import { responsesEncoder } from './responses.ts'
import { simScript, type ScriptChoice } from './script.ts'
import { injectedError } from './stream-writer.ts'
import { anthropicError, complain, tooLong, unknownModel, type Api } from './validate.ts'

/** What is wrong with a request; null when it can be served. */
export function refuse(sim: SimContext, api: Api, body: Body, path: string): Reply | null {
  const countsOnly = path.endsWith('/count_tokens')
  const broken = countsOnly ? null : complain(api, body)
  if (broken !== null) return broken
  const model = textAt(body, 'model')
  const unknown =
    model !== null && !sim.names.includes(model) ? unknownModel(model, sim.names) : null
  const semantic =
    unknown ??
    (countsOnly || api === 'embeddings' ? null : tooLong(body, promptsOf(body), sim.maxModelLen))
  return semantic !== null && api === 'messages' ? anthropicError(semantic) : semantic
}

const ID_PREFIX = {
  chat: 'chatcmpl-',
  completion: 'cmpl-',
  messages: 'chatcmpl-',
  responses: 'resp_',
  embeddings: 'embd-',
}

/** Answers a request that {@link refuse} found nothing wrong with. */
export function answer(exchange: Exchange, api: Api, body: Body, fault: Fault | null): void {
  const { sim, request, response, record, path } = exchange
  if (path.endsWith('/count_tokens')) {
    const count = promptsOf(body).reduce((sum, prompt) => sum + prompt.ids.length, 0)
    finish(
      exchange,
      json({ input_tokens: count, context_management: { original_input_tokens: count } }),
    )
    return
  }
  const id = `${ID_PREFIX[api]}${record.id ?? textAt(body, 'request_id') ?? hexId()}`
  if (api === 'embeddings') {
    finish(exchange, embeddingsReply(body, id, sim.names[0] ?? ''))
    return
  }
  const created = Math.floor(Date.now() / 1000)
  const reasoning = api === 'chat' && (thinkingAsked(body) ?? sim.reasoning)
  if (fault?.kind === 'stream-error' && body['stream'] !== true) {
    finish(exchange, { status: fault.code, body: injectedError(fault.code) })
    return
  }
  const choices = simScript(body, { seed: sim.seed, maxModelLen: sim.maxModelLen, reasoning })
  record.stream = body['stream'] === true
  const context: AnswerContext = {
    id,
    created,
    model: sim.names[0] ?? '',
    fingerprint: `vllm-${sim.version}-dcb12dd9`,
    maxModelLen: sim.maxModelLen,
    reasoning,
  }
  const generation: Generation = new Generation({
    request,
    response,
    body,
    choices,
    encoder: encoderFor(api, body, choices, context),
    driver: sim.driver,
    record,
    fault,
    loadHeaders: () => (api === 'chat' || api === 'completion' ? orca(exchange) : []),
    onEnd: (self) => {
      sim.active.delete(self)
      count(exchange, record.status ?? 200)
    },
  })
  if (generation.isOpen) sim.active.add(generation)
}

function encoderFor(
  api: Api,
  body: Body,
  choices: ScriptChoice[],
  context: AnswerContext,
): Encoder {
  switch (api) {
    case 'completion':
      return completionEncoder(body, context)
    case 'messages':
      return messagesEncoder(choices, context)
    case 'responses':
      return responsesEncoder(body, choices, context)
    case 'chat':
    case 'embeddings':
      return chatEncoder(body, choices, context)
  }
}

/** The load header a client may ask for with a whole answer. */
function orca({ sim, request }: Exchange): (readonly [string, string])[] {
  const format = header(request, 'endpoint-load-metrics-format')?.toUpperCase()
  if (format !== 'TEXT' && format !== 'JSON') return []
  const { engine } = sim.driver
  const metrics = { kv_cache_usage_perc: engine.kv.usage, num_requests_waiting: engine.waiting }
  const value =
    format === 'JSON'
      ? `JSON ${JSON.stringify({ named_metrics: metrics })}`
      : `TEXT ${Object.entries(metrics)
          .map(([name, n]) => `named_metrics.${name}=${n}`)
          .join(', ')}`
  return [['endpoint-load-metrics', value]]
}
