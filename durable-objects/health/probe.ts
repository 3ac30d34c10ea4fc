import type { Target } from '../fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../fleet/target.ts'
import type { Reading } from './state.ts'
import { readGauges, type Gauges } from './vllm-metrics.ts'

/** One look at an instance: how it is, and what its engine says of its load. */
export interface Look extends Gauges {
  readonly reading: Reading
}

export interface ProbeDeps {
  readonly fetch: typeof fetch
  readonly secretOf: SecretOf
}

export interface ProbeOptions {
  readonly servedAs: string
  /** Deadline of each single call, in milliseconds. No instance waits for another one's. */
  readonly timeoutMs: number
  /** Prove the model and one token as well: asked before an instance is first ready. */
  readonly entrance: boolean
}

/** The first token after a start may compile kernels; it gets longer than a plain reading. */
const FIRST_TOKEN_MS = 15_000

const NOTHING: Gauges = { running: null, waiting: null }

/** Looks at one instance. Never rejects: whatever goes wrong is a reading. */
export async function look(target: Target, options: ProbeOptions, deps: ProbeDeps): Promise<Look> {
  let gauges = NOTHING
  try {
    const call = caller(target, deps)
    gauges = await readEngine(call, options.timeoutMs)
    if (!options.entrance) return { reading: { kind: 'well' }, ...gauges }
    return { reading: await entranceCheck(call, options, gauges), ...gauges }
  } catch (cause) {
    return { reading: { kind: 'unwell', reason: inWords(cause) }, ...gauges }
  }
}

/** An answer that is not the one a healthy instance gives. The message is the reading's reason. */
class Unwell extends Error {}

type Call = (path: string, timeoutMs: number, body?: object) => Promise<Response>

function caller(target: Target, { fetch, secretOf }: ProbeDeps): Call {
  const headers = targetHeaders(target, secretOf)
  return (path, timeoutMs, body) =>
    fetch(target.base + path, {
      method: body ? 'POST' : 'GET',
      headers: body ? { ...headers, 'content-type': 'application/json' } : headers,
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'manual',
      ...(body && { body: JSON.stringify(body) }),
    })
}

/** `/metrics`, or `/health` where there are no metrics (`--disable-log-stats`, other servers). */
async function readEngine(call: Call, timeoutMs: number): Promise<Gauges> {
  const metrics = await call('/metrics', timeoutMs)
  const page = await metrics.text()
  if (metrics.ok) return readGauges(page)
  if (metrics.status !== 404) throw new Unwell(fault('/metrics', metrics))

  const health = await call('/health', timeoutMs)
  await health.body?.cancel()
  if (!health.ok) throw new Unwell(fault('/health', health))
  return NOTHING
}

/**
 * Before an instance takes tenants' requests it must list the pool's model and generate one token:
 * `/health` says 200 as long as the engine process lives (L07), and the port may serve another model.
 * A busy engine is generating already and is not asked (L08: it costs tokens, and fails under load).
 */
async function entranceCheck(
  call: Call,
  { servedAs, timeoutMs }: ProbeOptions,
  gauges: Gauges,
): Promise<Reading> {
  const answer = await call('/v1/models', timeoutMs)
  if (!answer.ok) throw new Unwell(fault('/v1/models', answer))
  const { data } = await answer.json<{ data?: readonly { id?: unknown }[] }>()
  const names = (data ?? []).map(({ id }) => String(id))
  if (!names.includes(servedAs)) {
    return { kind: 'mismatch', reason: `serves ${names.join(', ') || 'no model'}, not ${servedAs}` }
  }

  if ((gauges.running ?? 0) + (gauges.waiting ?? 0) > 0) return { kind: 'well' }
  const token = await call('/v1/completions', Math.max(timeoutMs, FIRST_TOKEN_MS), {
    model: servedAs,
    prompt: 'ping',
    max_tokens: 1,
  })
  if (!token.ok) throw new Unwell(fault('one token of /v1/completions', token))
  const { choices } = await token.json<{ choices?: readonly { finish_reason?: unknown }[] }>()
  const [choice] = choices ?? []
  if (!choice) throw new Unwell('one token of /v1/completions came back without a choice')
  // A vLLM that is shutting down answers 200 and `abort`.
  if (choice.finish_reason === 'abort') throw new Unwell('the engine aborts: it is shutting down')
  return { kind: 'well' }
}

/**
 * Our Nginx marks every answer with `x-penstock-origin`; an error without the mark was made on the
 * way (tunnel, Access), not by the instance (L14). Said in the reason, since the cure is elsewhere.
 */
function fault(what: string, { status, headers }: Response): string {
  const marked = headers.has('x-penstock-origin')
  const answered = `${what} answered ${status}`
  if (status === 403 && marked) return `${answered}: Nginx refused the node key`
  if (marked || headers.get('server') === 'uvicorn') return answered
  return status >= 300 && status < 600 && status !== 503
    ? `${answered}, not from our Nginx`
    : answered
}

function inWords(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause)
  if (cause.name === 'TimeoutError') return 'no answer in time'
  if (cause instanceof SyntaxError) return 'an answer that is not JSON'
  return cause.message
}
