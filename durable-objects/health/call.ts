import type { Target } from '../fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../fleet/target.ts'
import { isMarked, isOfTheWay } from './origin.ts'

export interface CallDeps {
  readonly fetch: typeof fetch
  readonly secretOf: SecretOf
}

/** An answer that is not the one a healthy instance gives. The message is the reading's reason. */
export class Unwell extends Error {}

/** Nobody got through to the instance: the tunnel, Access, or no Nginx at its end (L14). */
export class Unreached extends Error {}

/** One instance, as a look asks it. */
export interface Line {
  /**
   * GET, or POST where there is a body; each call has a deadline of its own, in milliseconds.
   * @throws Unreached when there is no connection to the site
   */
  readonly ask: (path: string, timeoutMs: number, body?: object) => Promise<Response>
  /** Asks the site's Nginx itself, whatever is behind it; false when it does not answer. */
  readonly nginxAnswers: (timeoutMs: number) => Promise<boolean>
  /** Whether our Nginx stands in front. */
  readonly behindNginx: boolean
  /** Whether it has answered on this line, for the instance or by itself: the way is open. */
  readonly marked: () => boolean
}

/** @throws MissingSecret when the fleet names a secret that this deployment lacks */
export function lineTo(target: Target, { fetch, secretOf }: CallDeps): Line {
  const headers = targetHeaders(target, secretOf)
  const behindNginx = target.site !== null
  let marked = false

  const call = async (url: string, timeoutMs: number, body?: object): Promise<Response> => {
    const answer = await fetch(url, {
      method: body ? 'POST' : 'GET',
      headers: body ? { ...headers, 'content-type': 'application/json' } : headers,
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'manual',
      ...(body && { body: JSON.stringify(body) }),
    })
    marked ||= isMarked(answer)
    return answer
  }

  return {
    behindNginx,
    marked: () => marked,
    ask: async (path, timeoutMs, body) => {
      try {
        return await call(target.base + path, timeoutMs, body)
      } catch (cause) {
        // Called directly, a refused connection is the instance's own; through a site, the site's.
        if (!behindNginx || isTimeout(cause)) throw cause
        throw new Unreached(inWords(cause), { cause })
      }
    },
    nginxAnswers: async (timeoutMs) => {
      try {
        const answer = await call(new URL('/', target.base).href, timeoutMs)
        await answer.body?.cancel()
        return isMarked(answer)
      } catch {
        return false
      }
    },
  }
}

/** Whose fault an answer is that is not a healthy one's. Said in the reason, since the cure is elsewhere. */
export function fault(what: string, answer: Response, { behindNginx }: Line): Unwell | Unreached {
  const answered = `${what} answered ${answer.status}`
  if (behindNginx && isOfTheWay(answer)) return new Unreached(`${answered}, not from our Nginx`)
  const refused = answer.status === 403 && isMarked(answer)
  return new Unwell(refused ? `${answered}: Nginx refused the node key` : answered)
}

export const isTimeout = (cause: unknown): boolean =>
  cause instanceof Error && cause.name === 'TimeoutError'

export function inWords(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause)
  if (isTimeout(cause)) return 'no answer in time'
  if (cause instanceof SyntaxError) return 'an answer that is not JSON'
  return cause.message
}
