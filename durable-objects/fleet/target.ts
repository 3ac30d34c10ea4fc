import type { Target } from './snapshot.ts'

/** Looks a Worker secret up by name; undefined when it is not set. */
export type SecretOf = (name: string) => string | undefined

/** A secret that the fleet names and this deployment does not have. */
export class MissingSecret extends Error {
  override readonly name = 'MissingSecret'

  constructor(secret: string) {
    super(`secret ${secret} is not set`)
  }
}

/**
 * The headers that open the way to an instance: node key, Access token, vLLM's own key.
 * @throws MissingSecret naming the first one that this deployment lacks
 */
export function targetHeaders(target: Target, secretOf: SecretOf): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const { header, secret, prefix } of target.secrets) {
    const value = secretOf(secret)
    if (!value) throw new MissingSecret(secret)
    headers[header] = (prefix ?? '') + value
  }
  return headers
}

/** Reads secrets from a Worker's `env`, where anything that is not a non-empty string is not one. */
export const secretsOf =
  (env: object): SecretOf =>
  (name) => {
    const value: unknown = (env as Record<string, unknown>)[name]
    return typeof value === 'string' && value !== '' ? value : undefined
  }
