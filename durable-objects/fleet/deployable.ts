/** Whether a file can be put to work here: no mistake in it, and every secret that it names is set. */
import { checkFleet } from './check.ts'
import { namedSecrets } from './compile.ts'
import { readSource } from './source.ts'
import type { Path, Problem, Source } from './source.ts'

/** Every text in a file, with where it stands. */
function* textsIn(value: unknown, path: Path = []): Generator<{ path: Path; text: string }> {
  if (typeof value === 'string') yield { path, text: value }
  if (typeof value !== 'object' || value === null) return
  const isList = Array.isArray(value)
  for (const [key, inner] of Object.entries(value)) {
    yield* textsIn(inner, [...path, isList ? Number(key) : key])
  }
}

const notSet = (name: string): string => `secret ${name} is not set: wrangler secret put ${name}`

/** A problem at each place that names a secret which is missing. */
function problemsOf(source: Source, missing: ReadonlySet<string>): readonly Problem[] {
  // The schema admits such names only where a secret is named, but for a few free texts: `served_as`
  // in capitals would at worst show the same sentence twice.
  const found = [...textsIn(source.data)].filter(({ text }) => missing.has(text))
  return found.map(({ path, text }) => source.problem(path, notSet(text)))
}

/**
 * Reads and checks a file as {@link checkFleet} does. One without mistakes is still refused when it names
 * a secret that is not set: its instances could not be called.
 *
 * @param isSet whether this deployment has a secret
 */
export function checkDeployable(
  text: string,
  isSet: (secret: string) => boolean,
): ReturnType<typeof checkFleet> {
  const checked = checkFleet(text)
  if (!checked.ok) return checked
  const missing = new Set(namedSecrets(checked.fleet).filter((name) => !isSet(name)))
  if (missing.size === 0) return checked
  const source = readSource(text)
  return { ok: false, problems: 'data' in source ? problemsOf(source, missing) : source }
}
