/** The Worker's secrets: which there are, which are made here, which only the operator knows. */
import { namedSecrets } from '../../durable-objects/fleet/compile.ts'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { EXIT, Failure } from './failure.ts'
import { wrangler, type Surroundings } from './setup-run.ts'

export const OWN_SECRETS = ['KEY_SIGNING_SECRET', 'ADMIN_TOKEN'] as const

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
/** Digits of a generated secret: 256 bits. */
const DIGITS = 43

/** A secret of 256 bits that needs no quoting anywhere. */
export function generated(bytes: (count: number) => Uint8Array): string {
  let text = ''
  while (text.length < DIGITS) {
    // Those above the last whole multiple of 62 would make some digits likelier than others.
    for (const byte of bytes(64)) if (byte < 248) text += BASE62[byte % 62] ?? ''
  }
  return text.slice(0, DIGITS)
}

/** Secrets that one may invent: our own, and what Nginx asks of the edge. */
export const inventable = (fleet: FleetFile): ReadonlySet<string> =>
  new Set([...OWN_SECRETS, ...Object.values(fleet.sites).flatMap(({ node_key }) => node_key ?? [])])

export const neededSecrets = (fleet: FleetFile): readonly string[] => [
  ...new Set([...OWN_SECRETS, ...namedSecrets(fleet)]),
]

/** @throws Failure where wrangler cannot tell */
export async function secretsThere({ run }: Surroundings, env: string): Promise<Set<string>> {
  const { exit, out, err } = await run(wrangler(env, 'secret', 'list', '--format', 'json'))
  if (exit === 0) {
    // Something may stand before the list: a note about a newer wrangler.
    const list = JSON.parse(out.slice(Math.max(0, out.indexOf('[')))) as { name: string }[]
    return new Set(list.map(({ name }) => name))
  }
  if (/Worker .* not found|code: 10007|code: 10090/.test(`${out}${err}`)) return new Set()
  throw new Failure(EXIT.invalid, `wrangler secret list: ${lastLine(`${out}\n${err}`)}`)
}

/** The line of a program's words that says most. */
export function lastLine(said: string): string {
  const lines = said.split('\n').flatMap((line) => line.trim() || [])
  return lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? 'no reason given'
}

/**
 * Sets the secrets that are missing, after a question, all in one call.
 *
 * @returns the values of those that were made here, to be shown once, and of what was asked for
 * @throws  Failure where one is not to be had, or nothing shall be done
 */
export async function setMissing(
  around: Surroundings,
  {
    fleet,
    env,
    worker,
  }: { readonly fleet: FleetFile; readonly env: string; readonly worker: string },
): Promise<{
  readonly made: ReadonlyMap<string, string>
  readonly values: ReadonlyMap<string, string>
}> {
  const there = await secretsThere(around, env)
  const needed = neededSecrets(fleet)
  const missing = needed.filter((name) => !there.has(name))
  const set = needed.filter((name) => there.has(name))
  if (set.length > 0) around.say(`secrets that are set already: ${set.join(', ')}`)
  if (missing.length === 0) return { made: new Map(), values: new Map() }

  const made = new Map<string, string>()
  const values = new Map<string, string>()
  const ours = inventable(fleet)
  await around.confirm(`Set the secrets ${missing.join(', ')} of the Worker ${worker}?`)
  for (const name of missing) {
    const own = (OWN_SECRETS as readonly string[]).includes(name)
    const given =
      around.env[name] ||
      (own ? '' : await around.askSecret(name, ours.has(name) ? 'empty: one is made' : 'needed'))
    if (given === '' && !ours.has(name)) {
      throw new Failure(EXIT.invalid, `${name} has no value; nothing was set`)
    }
    const value = given || generated(around.bytes)
    if (given === '') made.set(name, value)
    values.set(name, value)
  }
  const input = JSON.stringify(Object.fromEntries(values))
  const { exit, out, err } = await around.run(wrangler(env, 'secret', 'bulk'), { input })
  if (exit !== 0) {
    throw new Failure(EXIT.invalid, `wrangler secret bulk: ${lastLine(`${out}\n${err}`)}`)
  }
  around.say(`set: ${missing.join(', ')}`)
  return { made, values }
}
