/** Every path that takes a POST, and which kinds of model answer it. */
export type Api =
  | 'chat'
  | 'completion'
  | 'messages'
  | 'count-tokens'
  | 'responses'
  | 'embeddings'
  | 'rerank'
  | 'score'
  | 'transcription'
  | 'translation'

/** What the simulated model can do. vLLM has only the routes that its model supports. */
export type ModelKind = 'all' | 'generate' | 'embed' | 'score' | 'transcribe'

export const MODEL_KINDS: readonly ModelKind[] = ['all', 'generate', 'embed', 'score', 'transcribe']

const APIS: Readonly<Record<string, Api>> = {
  '/v1/chat/completions': 'chat',
  '/v1/completions': 'completion',
  '/v1/messages': 'messages',
  '/v1/messages/count_tokens': 'count-tokens',
  '/v1/responses': 'responses',
  '/v1/embeddings': 'embeddings',
  '/rerank': 'rerank',
  '/v1/rerank': 'rerank',
  '/v2/rerank': 'rerank',
  '/score': 'score',
  '/v1/score': 'score',
  '/v1/audio/transcriptions': 'transcription',
  '/v1/audio/translations': 'translation',
}

const GENERATES: readonly Api[] = ['chat', 'completion', 'messages', 'count-tokens', 'responses']
const COMPARES: readonly Api[] = ['rerank', 'score']
const LISTENS: readonly Api[] = ['transcription', 'translation']

/** A model that embeds also compares: by the angle between two embeddings. */
const SUPPORTED: Readonly<Record<Exclude<ModelKind, 'all'>, readonly Api[]>> = {
  generate: GENERATES,
  embed: ['embeddings', ...COMPARES],
  score: COMPARES,
  transcribe: LISTENS,
}

/** What a path means to a model of this kind; null where it has no such route. */
export function apiAt(kind: ModelKind, path: string): Api | null {
  const api = Object.hasOwn(APIS, path) ? (APIS[path] ?? null) : null
  if (api === null || kind === 'all' || SUPPORTED[kind].includes(api)) return api
  return null
}

/** Whether any model does its work behind this path. */
export const isInference = (path: string): boolean => Object.hasOwn(APIS, path)

/** The path of the WebSocket that transcribes. */
export const REALTIME = '/v1/realtime'

export const hasRealtime = (kind: ModelKind): boolean => kind === 'all' || kind === 'transcribe'
