import { Unwell, fault, type Line } from './call.ts'
import type { Reading } from './state.ts'

/** The first answer after a start may compile kernels; it gets longer than a plain reading. */
const FIRST_ANSWER_MS = 15_000
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

/** Whether the instance lists the pool's model: its port may serve another one. */
export async function modelCheck(
  line: Line,
  servedAs: string,
  timeoutMs: number,
): Promise<Reading> {
  const answer = await line.ask('/v1/models', timeoutMs)
  if (!answer.ok) throw fault('/v1/models', answer, line)
  const { data } = await answer.json<{ data?: readonly { id?: unknown }[] }>()
  const names = (data ?? []).map(({ id }) => String(id))
  if (names.includes(servedAs)) return { kind: 'well' }
  return { kind: 'mismatch', reason: `serves ${listed(names)}, not ${servedAs}` }
}

/**
 * One small request of the pool's kind: `/health` says 200 as long as the engine process lives (L07).
 * Where a server has none of these routes (speech to text wants a file), its model list has to do.
 *
 * @throws Unwell when the engine does not do what its routes promise
 */
export async function workCheck(line: Line, servedAs: string, timeoutMs: number): Promise<Reading> {
  for (const { path, what, body, says } of SMALL_REQUESTS) {
    const deadline = Math.max(timeoutMs, FIRST_ANSWER_MS)
    const answer = await line.ask(path, deadline, { model: servedAs, ...body })
    if (await isAbsent(answer)) continue
    if (!answer.ok) throw fault(`${what} of ${path}`, answer, line)
    const { [says]: found } = await answer.json<SmallAnswer>()
    const [first] = found ?? []
    if (!first) throw new Unwell(`${path} came back without ${what}`)
    // A vLLM that is shutting down answers 200 and `abort`.
    if (first.finish_reason === 'abort') throw new Unwell('the engine aborts: it is shutting down')
    return { kind: 'well' }
  }
  return { kind: 'well' }
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

function listed(names: readonly string[]): string {
  const told = names.slice(0, NAMES_TOLD).join(', ') || 'no model'
  const more = names.length - NAMES_TOLD
  return more > 0 ? `${told} and ${more} more` : told
}
