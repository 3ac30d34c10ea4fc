import type { SecretOf } from '../fleet/target.ts'

/** How often a webhook is tried again, and the wait before the first time, in milliseconds; then it doubles. */
const RETRIES = 6
const FIRST_WAIT_MS = 30_000
/** How long a receiver may take, in milliseconds. */
const ANSWER_MS = 10_000

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
