import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Fetch } from '../forward/upstream.ts'
import { Refusal } from '../refusal.ts'

/** A slot that was lent for a socket: what dialling needs of it. */
export interface Line {
  readonly slot: { readonly target: Target }
  readonly route: { readonly pool: { readonly timeouts: { readonly firstByteMs: number } } }
  readonly secretOf: SecretOf
  /** Gives the slot back. */
  readonly release: (ending: Ending) => void
}

export interface DialDeps<L extends Line> {
  /** Lends a slot of an instance that is not to be avoided. */
  readonly lend: (avoid: readonly string[]) => Promise<L>
  readonly fetch: Fetch
  readonly after: (ms: number, act: () => void) => () => void
  readonly log: (message: string) => void
}

export interface Dialled<L extends Line> {
  readonly line: L
  readonly socket: WebSocket
}

const PATH = '/v1/realtime'
/** Instances that are tried for one socket. */
const TRIES = 2

/**
 * Opens a WebSocket to an instance, or, when that fails, to another one. The slots of those that
 * failed have been given back.
 * @param headers of the request: its id, nothing of the tenant's
 * @param signal  ends the dialling: the client left
 * @throws Refusal when nobody could be reached
 */
export async function dial<L extends Line>(
  deps: DialDeps<L>,
  { headers, signal }: { headers: Readonly<Record<string, string>>; signal: AbortSignal },
): Promise<Dialled<L>> {
  const failed: { readonly instance: string; readonly refusal: Refusal }[] = []
  for (;;) {
    let line: L
    try {
      line = await deps.lend(failed.map(({ instance }) => instance))
    } catch (error) {
      throw failed[0]?.refusal ?? error // nobody else: what the first one did is the answer
    }
    const { instance } = line.slot.target
    const answer = await call(line, deps, { headers, signal })
    if (answer.socket && !signal.aborted) return { line, socket: answer.socket }
    if (signal.aborted) {
      answer.socket?.accept()
      answer.socket?.close(1001)
      line.release('client-left')
      throw new Refusal('upstream_failed', 'The client left.')
    }
    const { refusal, reason, ending } = judge(answer)
    line.release(ending)
    deps.log(`${instance}: ${reason}`)
    failed.push({ instance, refusal })
    if (refusal.code === 'not_found' || failed.length === TRIES) throw refusal
  }
}

interface Answer {
  readonly socket: WebSocket | null
  /** The instance has no such endpoint: its model does something else. */
  readonly unknown: boolean
  readonly late: boolean
  readonly reason: string
}

/** One instance's answer. Never rejects. */
async function call(
  { slot: { target }, route, secretOf }: Line,
  { fetch, after }: Pick<DialDeps<Line>, 'fetch' | 'after'>,
  { headers, signal }: { headers: Readonly<Record<string, string>>; signal: AbortSignal },
): Promise<Answer> {
  const abort = new AbortController()
  const leave = (): void => abort.abort()
  let late = false
  const stopWaiting = after(route.pool.timeouts.firstByteMs, () => {
    late = true
    leave()
  })
  signal.addEventListener('abort', leave)
  try {
    if (signal.aborted) leave()
    const response = await fetch(target.base + PATH, {
      headers: { upgrade: 'websocket', ...headers, ...targetHeaders(target, secretOf) },
      signal: abort.signal,
      redirect: 'manual',
    })
    const { status, webSocket: socket } = response
    const said = socket ? null : await response.text()
    // Starlette closes a WebSocket it has no route for; before the handshake that is a bare 403.
    const unknown = status === 404 || (status === 403 && said === '')
    return { socket, unknown, late, reason: `HTTP ${status} to an upgrade` }
  } catch (cause) {
    const reason = late ? 'no answer in time' : String(cause)
    return { socket: null, unknown: false, late, reason }
  } finally {
    stopWaiting()
    signal.removeEventListener('abort', leave)
  }
}

/** An upgrade that was refused. Its words are not passed on: they speak of the site's keys and paths. */
function judge({ unknown, late, reason }: Answer): {
  readonly refusal: Refusal
  readonly reason: string
  readonly ending: Ending
} {
  if (late) {
    const message = 'The model server did not answer in time.'
    const refusal = new Refusal('upstream_timeout', message, { cause: reason })
    return { refusal, reason, ending: 'timed-out' }
  }
  if (unknown) {
    const refusal = new Refusal('not_found', 'This model does not offer this endpoint.')
    return { refusal, reason, ending: 'done' }
  }
  const refusal = new Refusal('upstream_failed', 'The model server failed to answer.', {
    cause: reason,
  })
  return { refusal, reason, ending: 'upstream-failed' }
}
