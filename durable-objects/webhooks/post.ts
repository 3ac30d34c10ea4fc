import type { SecretOf } from '../fleet/target.ts'

/** How often a webhook is tried again, and the wait before the first time, in milliseconds; then it doubles. */
const RETRIES = 6
const FIRST_WAIT_MS = 30_000
/** How long a receiver may take, in milliseconds. */
export const ANSWER_MS = 10_000

export interface PostDeps {
  readonly fetch: typeof fetch
  readonly secretOf: SecretOf
}

/**
 * Posts a notice to whom a secret names.
 * @returns null once it was taken (a 2xx), else why not; never the URL, which is a secret
 */
export async function post(
  urlSecret: string,
  body: string,
  { fetch, secretOf }: PostDeps,
): Promise<string | null> {
  const url = secretOf(urlSecret)
  if (url === undefined) return `secret ${urlSecret} is not set`
  if (!URL.canParse(url)) return `secret ${urlSecret} is no URL`
  try {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'penstock' },
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    await answer.body?.cancel()
    return answer.ok ? null : `status ${answer.status}`
  } catch (cause) {
    // The error's own words may contain the URL.
    return cause instanceof Error && cause.name === 'TimeoutError' ? 'timed out' : 'out of reach'
  }
}

/**
 * The wait before a notice is tried again, in milliseconds: doubles each time.
 * @param attempts times it was tried so far, 1 or more
 * @returns null when it was tried often enough
 */
export const retryInMs = (attempts: number): number | null =>
  attempts > RETRIES ? null : FIRST_WAIT_MS * 2 ** (attempts - 1)

/** A notice that was tried. */
export interface Tried {
  /** Times it was tried so far, this one included. */
  readonly attempts: number
  /** Until it is to be tried again, in milliseconds; null: it was taken, or is given up. */
  readonly waitMs: number | null
}

/** Tries a notice once, and says in the log where that has failed. @param before times it was tried before */
export async function tryToPost(
  urlSecret: string,
  body: string,
  before: number,
  deps: PostDeps,
): Promise<Tried> {
  const fault = await post(urlSecret, body, deps)
  const attempts = before + 1
  if (fault === null) return { attempts, waitMs: null }
  console.warn(`webhook ${urlSecret}, attempt ${attempts}: ${fault}`)
  return { attempts, waitMs: retryInMs(attempts) }
}
