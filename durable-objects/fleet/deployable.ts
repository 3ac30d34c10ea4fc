/** Whether a file can be put to work here: no mistake in it, every secret that it names is set, and it can be kept. */
import { checkFleet } from './check.ts'
import { compileFleet, namedSecrets } from './compile.ts'
import { readSource } from './source.ts'
import type { Path, Problem, Source } from './source.ts'
import { MOST_STORED_BYTES, storedBytes } from './stored-size.ts'

/** Every text in a file, with where it stands. */
function* textsIn(value: unknown, path: Path = []): Generator<{ path: Path; text: string }> {
  if (typeof value === 'string') yield { path, text: value }
  if (typeof value !== 'object' || value === null) return
  const isList = Array.isArray(value)
  for (const [key, inner] of Object.entries(value)) {
    yield* textsIn(inner, [...path, isList ? Number(key) : key])
  }
}

const notSet = (name: string): string =>
  `secret ${name} is not set: npx wrangler secret put ${name} --env=""`

const megabytes = (bytes: number): string => `${(Math.ceil(bytes / 100_000) / 10).toFixed(1)} MB`

/** @param size in bytes */
const tooLarge = (size: number): Problem => ({
  path: '',
  line: 1,
  column: 1,
  message: `this file and what is made of it have ${megabytes(size)}, and a router keeps at most ${megabytes(MOST_STORED_BYTES)}: leave out instances, models or rules, or give a part of them a router of its own`,
})

/** A problem at each place that names a secret which is missing. */
function problemsOf(source: Source, missing: ReadonlySet<string>): readonly Problem[] {
  // The schema admits such names only where a secret is named, but for a few free texts: `served_as`
  // in capitals would at worst show the same sentence twice.
  const found = [...textsIn(source.data)].filter(({ text }) => missing.has(text))
  return found.map(({ path, text }) => source.problem(path, notSet(text)))
}

/**
 * Reads and checks a file as {@link checkFleet} does. One without mistakes is still refused when it names
 * a secret that is not set, since its instances could not be called, and when it is too large to be stored.
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
  if (missing.size === 0) {
    const size = storedBytes(text, compileFleet(checked.fleet, 1, {}))
    return size <= MOST_STORED_BYTES ? checked : { ok: false, problems: [tooLarge(size)] }
  }
  const source = readSource(text)
  return { ok: false, problems: 'data' in source ? problemsOf(source, missing) : source }
}
