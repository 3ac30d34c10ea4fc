import type { Target } from '../fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../fleet/target.ts'

export interface CallDeps {
  readonly fetch: typeof fetch
  readonly secretOf: SecretOf
}

/** An answer that is not the one a healthy instance gives. The message is the reading's reason. */
export class Unwell extends Error {}

/** One instance, as a look asks it. */
export interface Line {
  /** GET, or POST where there is a body; each call has a deadline of its own, in milliseconds. */
  readonly ask: (path: string, timeoutMs: number, body?: object) => Promise<Response>
  /** Whether our Nginx stands in front. */
  readonly behindNginx: boolean
}

/** @throws MissingSecret when the fleet names a secret that this deployment lacks */
export function lineTo(target: Target, { fetch, secretOf }: CallDeps): Line {
  const headers = targetHeaders(target, secretOf)
  return {
    behindNginx: target.site !== null,
    ask: (path, timeoutMs, body) =>
      fetch(target.base + path, {
        method: body ? 'POST' : 'GET',
        headers: body ? { ...headers, 'content-type': 'application/json' } : headers,
        signal: AbortSignal.timeout(timeoutMs),
        redirect: 'manual',
        ...(body && { body: JSON.stringify(body) }),
      }),
  }
}

/**
 * Our Nginx marks every answer with `x-penstock-origin`; an error without the mark was made on the
 * way (tunnel, Access), not by the instance (L14). Said in the reason, since the cure is elsewhere.
 */
export function fault(what: string, { status, headers }: Response, { behindNginx }: Line): Unwell {
  const marked = headers.has('x-penstock-origin')
  const answered = `${what} answered ${status}`
  if (status === 403 && marked) return new Unwell(`${answered}: Nginx refused the node key`)
  const ofInstance = !behindNginx || marked || headers.get('server') === 'uvicorn'
  const ofTheWay = !ofInstance && status >= 300 && status < 600 && status !== 503
  return new Unwell(ofTheWay ? `${answered}, not from our Nginx` : answered)
}

export function inWords(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause)
  if (cause.name === 'TimeoutError') return 'no answer in time'
  if (cause instanceof SyntaxError) return 'an answer that is not JSON'
  return cause.message
}
