import { parseEnv } from 'node:util'

/**
 * Values for the secrets that a fleet file names: the environment first, then `.dev.vars`.
 *
 * @param names   what the file names
 * @param devVars text of `.dev.vars` (`NAME=value` lines, as wrangler reads them), or null without one
 */
export function findSecrets(
  names: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  devVars: string | null,
): { readonly found: Readonly<Record<string, string>>; readonly missing: readonly string[] } {
  const file = devVars === null ? {} : parseEnv(devVars)
  const found: Record<string, string> = {}
  const missing: string[] = []
  for (const name of names) {
    const value = env[name] || file[name]
    if (value) found[name] = value
    else missing.push(name)
  }
  return { found, missing }
}
