import { Unwell, fault, type Line } from './call.ts'
import type { Reading } from './state.ts'

/** Model names that are kept of a list. */
const NAMES_KEPT = 256
/** Model names that a reason tells; a hosted service may have hundreds. */
const NAMES_TOLD = 5

/** One small request, and where its answer keeps what was asked for. */
interface SmallRequest {
  readonly path: string
  readonly what: string
  readonly body: object
  readonly says: 'choices' | 'data'
}

/** One for each kind of pool. A vLLM has the routes of its model's own tasks and no others. */
const SMALL_REQUESTS: readonly SmallRequest[] = [
  {
    path: '/v1/completions',
    what: 'one token',
    body: { prompt: 'ping', max_tokens: 1 },
    says: 'choices',
  },
  { path: '/v1/embeddings', what: 'one vector', body: { input: 'ping' }, says: 'data' },
  {
    path: '/v1/score',
    what: 'one score',
    body: { text_1: 'ping', text_2: 'pong' },
    says: 'data',
  },
]

/** What an instance's model list says. */
export interface Listing {
  /** Names it serves, adapters included. */
  readonly models: readonly string[]
  /** Longest prompt and answer together, in tokens; null where it does not say. */
  readonly maxModelLen: number | null
}

/**
 * Whether the instance lists the pool's model: its port may serve another one.
 * @param adapters names that are kept of a list, however long it is
 * @throws Unwell or Unreached when there is no list
 */
export async function modelCheck(
  line: Line,
  servedAs: string,
  timeoutMs: number,
  adapters: readonly string[] = [],
): Promise<{ readonly reading: Reading; readonly listing: Listing }> {
  const answer = await line.ask('/v1/models', timeoutMs)
  if (!answer.ok) throw fault('/v1/models', answer, line)
  const { data } = JSON.parse(await answer.text()) as ModelList
  const cards = data ?? []
  const names = cards.map(({ id }) => String(id))
  const ours = cards[names.indexOf(servedAs)]
  const length = ours?.max_model_len
  const listing = {
    models: kept(names, adapters),
    maxModelLen: typeof length === 'number' && length > 0 ? length : null,
  }
  if (ours) return { reading: { kind: 'well' }, listing }
  const reason = `serves ${listed(names)}, not ${servedAs}`
  return { reading: { kind: 'mismatch', reason }, listing }
}

/**
 * One small request of the pool's kind: `/health` says 200 as long as the engine process lives (L07).
 * Where a server has none of these routes (speech to text wants a file), its model list has to do.
 *
 * @param timeoutMs for each of them
 * @throws Unwell or Unreached when the engine does not do what its routes promise
 */
export async function workCheck(line: Line, servedAs: string, timeoutMs: number): Promise<Reading> {
  for (const { path, what, body, says } of SMALL_REQUESTS) {
    const answer = await line.ask(path, timeoutMs, { model: servedAs, ...body })
    if (await isAbsent(answer)) continue
    if (!answer.ok) throw fault(`${what} of ${path}`, answer, line)
    const { [says]: found } = JSON.parse(await answer.text()) as SmallAnswer
    const [first] = found ?? []
    if (!first) throw new Unwell(`${path} came back without ${what}`)
    // A vLLM that is shutting down answers 200 and `abort`.
    if (first.finish_reason === 'abort') throw new Unwell('the engine aborts: it is shutting down')
    return { kind: 'well' }
  }
  return { kind: 'well' }
}

interface ModelList {
  readonly data?: readonly { readonly id?: unknown; readonly max_model_len?: unknown }[]
}

type SmallAnswer = Readonly<
  Partial<Record<SmallRequest['says'], readonly { finish_reason?: unknown }[]>>
>

/**
 * No such route: 501, or FastAPI's own 404, which has a `detail` (its 404 about a model has an `error`).
 * Leaves the body of any other answer unread.
 */
async function isAbsent(answer: Response): Promise<boolean> {
  if (answer.status !== 404 && answer.status !== 501) return false
  const text = await answer.text()
  return answer.status === 501 || /^\s*\{\s*"detail"/.test(text)
}

function kept(names: readonly string[], adapters: readonly string[]): readonly string[] {
  if (names.length <= NAMES_KEPT) return names
  const first = names.filter((name) => adapters.includes(name))
  return [...first, ...names].slice(0, NAMES_KEPT)
}

function listed(names: readonly string[]): string {
  const told = names.slice(0, NAMES_TOLD).join(', ') || 'no model'
  const more = names.length - NAMES_TOLD
  return more > 0 ? `${told} and ${more} more` : told
}
