/** Requests that generate: refused, or handed to the engine in their endpoint's wire format. */
import { injectedError, type AnswerContext, type Encoder } from './answer.ts'
import { anthropicError } from './anthropic-errors.ts'
import { audioEncoder, refuseAudio, transcriptOf } from './audio.ts'
import { textAt, type Body } from './body.ts'
import { chatEncoder } from './chat.ts'
import { completionEncoder } from './completions.ts'
import { embeddingsReply } from './embeddings.ts'
import type { Api } from './endpoints.ts'
import { count, finish, header, type Exchange, type SimContext } from './exchange.ts'
import type { Fault } from './faults.ts'
import { Generation } from './generation.ts'
import { hexId } from './ids.ts'
import { limitOf } from './limits.ts'
import { messagesEncoder } from './messages.ts'
import { promptsOf } from './prompt.ts'
import { json, type Reply } from './reply.ts'
import { responsesEncoder } from './responses.ts'
import { rerankReply, scoreReply } from './scoring.ts'
import { silenced, simScript, type ScriptChoice } from './script.ts'
import { thinkingAsked } from './tools.ts'
import { complain, tooLong, unknownModel } from './validate.ts'

/** What is wrong with a request; null when it can be served. */
export function refuse(sim: SimContext, api: Api, body: Body): Reply | null {
  const broken = complain(api, body)
  if (broken !== null) return broken
  const model = textAt(body, 'model')
  const known = [...sim.names, ...sim.adapters]
  const unknown = model !== null && !known.includes(model) ? unknownModel(model, known) : null
  const semantic = unknown ?? refuseContent(sim, api, body)
  const isAnthropic = api === 'messages' || api === 'count-tokens'
  return semantic !== null && isAnthropic ? anthropicError(semantic) : semantic
}

function refuseContent(sim: SimContext, api: Api, body: Body): Reply | null {
  switch (api) {
    case 'chat':
    case 'completion':
    case 'messages':
    case 'responses':
      return tooLong(api, body, promptsOf(body), sim.maxModelLen)
    case 'transcription':
    case 'translation':
      return refuseAudio(body)
    case 'count-tokens':
    case 'embeddings':
    case 'rerank':
    case 'score':
      return null
  }
}

/** What an answer calls the model: the adapter that was asked for, else the first of its own names. */
function shownAs({ names, adapters }: SimContext, body: Body): string {
  const asked = textAt(body, 'model')
  return asked !== null && adapters.includes(asked) ? asked : (names[0] ?? '')
}

const ID_PREFIX: Readonly<Record<Api, string>> = {
  chat: 'chatcmpl-',
  completion: 'cmpl-',
  messages: 'chatcmpl-',
  responses: 'resp_',
  embeddings: 'embd-',
  rerank: 'score-',
  score: 'score-',
  transcription: 'transcribe-',
  translation: 'translate-',
  'count-tokens': '',
}

/** Answers a request that {@link refuse} found nothing wrong with. */
export function answer(exchange: Exchange, api: Api, body: Body, fault: Fault | null): void {
  const { sim, record } = exchange
  const model = shownAs(sim, body)
  const id = `${ID_PREFIX[api]}${record.id ?? textAt(body, 'request_id') ?? hexId()}`
  switch (api) {
    case 'count-tokens': {
      const count = promptsOf(body).reduce((sum, prompt) => sum + prompt.ids.length, 0)
      const counts = { original_input_tokens: count }
      const reply = json({ input_tokens: count, context_management: counts })
      finishCounted(exchange, { reply, promptTokens: count }, fault)
      return
    }
    case 'embeddings':
      finishCounted(exchange, embeddingsReply(body, id, model), fault)
      return
    case 'rerank':
      finishCounted(exchange, rerankReply(body, id, model), fault)
      return
    case 'score':
      finishCounted(exchange, scoreReply(body, id, model), fault)
      return
    case 'chat':
    case 'completion':
    case 'messages':
    case 'responses':
    case 'transcription':
    case 'translation':
      generate(exchange, api, body, id, fault)
  }
}

/** An answer that is ready at once; faults of streams that make sense for it strike it too. */
function finishCounted(
  exchange: Exchange,
  answer: { readonly reply: Reply; readonly promptTokens: number },
  fault: Fault | null,
): void {
  exchange.record.promptTokens = answer.promptTokens
  if (fault?.kind === 'stream-error') {
    finish(exchange, { status: fault.code, body: injectedError(fault.code) })
  } else if (fault?.kind === 'silence') {
    exchange.record.outcome = 'hung'
  } else if (fault?.kind === 'cut') {
    exchange.record.outcome = 'cut'
    exchange.record.endedAt = Date.now()
    exchange.request.socket.resetAndDestroy()
  } else if (fault?.kind === 'late-start') {
    setTimeout(() => finish(exchange, answer.reply), fault.ms)
  } else {
    finish(exchange, answer.reply)
  }
}

type Generating = 'chat' | 'completion' | 'messages' | 'responses' | 'transcription' | 'translation'

function generate(
  exchange: Exchange,
  api: Generating,
  body: Body,
  id: string,
  fault: Fault | null,
): void {
  const { sim, request, response, record } = exchange
  if (fault?.kind === 'stream-error' && body['stream'] !== true) {
    const reply = { status: fault.code, body: injectedError(fault.code) }
    finish(exchange, api === 'messages' ? anthropicError(reply) : reply)
    return
  }
  const thinks = api === 'chat' || api === 'messages' || api === 'responses'
  const context: AnswerContext = {
    id,
    created: Math.floor(Date.now() / 1000),
    model: shownAs(sim, body),
    fingerprint: `vllm-${sim.version}-dcb12dd9`,
    maxModelLen: sim.maxModelLen,
    reasoning: thinks && (thinkingAsked(body) ?? sim.reasoning),
    promptTokensDetails: sim.promptTokensDetails,
  }
  record.stream = body['stream'] === true
  const comments = api === 'chat' || api === 'completion'
  const generation: Generation = new Generation({
    request,
    response,
    body,
    maxTokens: limitOf(body, api),
    ...said(sim, api, body, context, fault),
    driver: sim.driver,
    record,
    fault,
    keepAliveMs: comments
      ? fault?.kind === 'keep-alive'
        ? fault.everyMs
        : sim.sseKeepAliveMs
      : null,
    keepFrameTimes: sim.log.keepFrameTimes,
    loadHeaders: () => (comments ? orca(exchange) : []),
    onEnd: (self) => {
      sim.active.delete(self)
      count(exchange, record.status ?? 200)
    },
  })
  if (generation.isOpen) sim.active.add(generation)
}

/** What the model says to a body, and how its endpoint writes it. */
function said(
  sim: SimContext,
  api: Generating,
  body: Body,
  context: AnswerContext,
  fault: Fault | null,
): { readonly choices: readonly ScriptChoice[]; readonly encoder: Encoder } {
  const { seed, maxModelLen } = sim
  if (api === 'transcription' || api === 'translation') {
    const { choice, seconds } = transcriptOf(body, { seed, maxModelLen })
    return { choices: [choice], encoder: audioEncoder(api, body, seconds, context) }
  }
  const script = simScript(body, { api, seed, maxModelLen, reasoning: context.reasoning })
  const choices = fault?.kind === 'empty' ? script.map(silenced) : script
  switch (api) {
    case 'completion':
      return { choices, encoder: completionEncoder(body, context) }
    case 'messages':
      return { choices, encoder: messagesEncoder(body, choices, context) }
    case 'responses': {
      const aborted = () => {
        const now = fault ?? sim.faults.current
        return now?.kind === 'abort' && now.asCompleted === true ? 'completed' : 'cancelled'
      }
      return { choices, encoder: responsesEncoder(body, choices, context, aborted) }
    }
    case 'chat':
      return { choices, encoder: chatEncoder(body, choices, context) }
  }
}

/** The load header a client may ask for with a whole answer. */
function orca({ sim, request }: Exchange): (readonly [string, string])[] {
  const format = header(request, 'endpoint-load-metrics-format')?.toUpperCase()
  if (format !== 'TEXT' && format !== 'JSON') return []
  const { driver } = sim
  const { engine } = driver
  const metrics = {
    kv_cache_usage_perc: engine.kvUsageAt(driver.now()),
    num_requests_waiting: engine.waiting,
  }
  const value =
    format === 'JSON'
      ? `JSON ${JSON.stringify({ named_metrics: metrics })}`
      : `TEXT ${Object.entries(metrics)
          .map(([name, n]) => `named_metrics.${name}=${n}`)
          .join(', ')}`
  return [['endpoint-load-metrics', value]]
}
