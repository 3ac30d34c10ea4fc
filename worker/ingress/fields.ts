import { isExact, isObject, type Json } from '../json.ts'

/**
 * What vLLM takes from anybody and a tenant may not decide: who is served first and by which rank,
 * other people's caches, code and templates that run on the node, work without an end.
 */
const FORBIDDEN: ReadonlySet<string> = new Set([
  'priority',
  'data_parallel_rank',
  'request_id',
  'session_id',
  'cache_salt',
  'kv_transfer_params',
  'ec_transfer_params',
  'vllm_xargs',
  'logits_processors',
  'chat_template',
  'mm_processor_kwargs',
  'media_io_kwargs',
  'prompt_embeds',
  'prompt_logprobs',
  'return_prompt_text',
  'use_beam_search',
  'ignore_eos',
  'min_tokens',
  'stream_interval',
])

const FORBIDDEN_HEADERS = [
  'x-data-parallel-rank',
  'x-vllm-priority',
  'endpoint-load-metrics-format',
]

/** Arguments of the template's renderer rather than of the template. */
const FORBIDDEN_KWARGS: ReadonlySet<string> = new Set(['chat_template', 'tokenize'])

/** Characters; switches are words such as `high`, a template or a document is longer. */
const LONGEST_KWARG = 64

/** Switches of `chat_template_kwargs` that are named one by one. */
const MOST_NAMED = 8

/** Something without the fields that a tenant may not set, and their names. */
export interface Taken<T> {
  readonly rest: T
  readonly removed: readonly string[]
}

/** Takes the forbidden fields out. Those that said nothing, null or false, go unnamed. */
export function takeFields(body: Json): Taken<Json> {
  const removed = Object.keys(body).filter((name) => FORBIDDEN.has(name))
  const kept =
    removed.length === 0
      ? body
      : Object.fromEntries(Object.entries(body).filter(([name]) => !FORBIDDEN.has(name)))
  const named = removed.filter((name) => asks(body[name]))

  const kwargs = kept['chat_template_kwargs']
  if (!isObject(kwargs)) return { rest: kept, removed: named }
  const entries = Object.entries(kwargs)
  const switches = entries.filter(([name, value]) => isSwitch(name, value))
  if (switches.length === entries.length) return { rest: kept, removed: named }
  const gone = entries.filter(([name, value]) => !isSwitch(name, value))
  return {
    rest: { ...kept, chat_template_kwargs: Object.fromEntries(switches) },
    removed: [...named, ...dotted(gone.map(([name]) => name))],
  }
}

/** The same for a form, whose order and files stay as they are. */
export function takeParts(form: FormData): Taken<FormData> {
  const removed = new Set([...form.keys()].filter((name) => FORBIDDEN.has(plain(name))))
  if (removed.size === 0) return { rest: form, removed: [] }
  const rest = new FormData()
  for (const [name, value] of form) {
    if (!removed.has(name)) rest.append(name, value)
  }
  return { rest, removed: [...new Set([...removed].map(plain))] }
}

/** Headers that a tenant sent and vLLM would obey. They are not passed on; this is for the receipt. */
export function removedHeaders(headers: Headers): string[] {
  return FORBIDDEN_HEADERS.filter((name) => headers.has(name))
}

/** Tenants choose these names, and they end up in a header: few and plain ones, or none. */
function dotted(names: readonly string[]): string[] {
  const plain = names.length <= MOST_NAMED && names.every((name) => /^[\w.-]{1,64}$/.test(name))
  return plain ? names.map((name) => `chat_template_kwargs.${name}`) : ['chat_template_kwargs']
}

/** Forms write lists and objects as `name[]` and `name[key]`. */
const plain = (name: string): string => name.split('[', 1)[0] ?? name

const asks = (value: unknown): boolean => value !== null && value !== false

function isSwitch(name: string, value: unknown): boolean {
  if (FORBIDDEN_KWARGS.has(name)) return false
  if (typeof value === 'string') return value.length <= LONGEST_KWARG
  return value === null || typeof value !== 'object' || isExact(value)
}
