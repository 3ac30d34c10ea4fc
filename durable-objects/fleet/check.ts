/** Finds every mistake of a `fleet.yaml` at once, each with its line. */
import { instanceRules } from './instance-rules.ts'
import { modelRules } from './model-rules.ts'
import { siteRules } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'
import { ENTRIES, FleetFile } from './schema.ts'
import { sentence } from './sentences.ts'
import { settingRules } from './setting-rules.ts'
import { readSource } from './source.ts'
import type { Path, Problem } from './source.ts'
import { termsRules } from './terms-rules.ts'
import type { z } from 'zod'

export type { Problem } from './source.ts'

type Issue = z.core.$ZodIssue

/**
 * Of two kinds that a value may be, what is wrong with the one that was meant: an instance with the key `url`
 * is of the second kind, and a list where one text or several may stand.
 */
const meantBranch = (errors: readonly (readonly Issue[])[], value: unknown): readonly Issue[] => {
  const isUrl = typeof value === 'object' && value !== null && 'url' in value
  return errors[isUrl || Array.isArray(value) ? 1 : 0] ?? []
}

const valueAt = (data: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (value, part) => (value as Record<string | number, unknown> | null)?.[part],
    data,
  )

/** The schema's findings, one per mistake. */
function* schemaFindings(
  issues: readonly Issue[],
  data: unknown,
  base: Path = [],
): Generator<Finding> {
  for (const issue of issues) {
    const path = [...base, ...(issue.path as Path)]
    if (issue.code === 'unrecognized_keys') {
      const lines = issue.message.split('\n')
      for (const [index, key] of issue.keys.entries()) {
        yield { path: [...path, key], at: 'key', message: lines[index] ?? issue.message }
      }
    } else if (issue.code === 'invalid_union') {
      yield* schemaFindings(meantBranch(issue.errors, valueAt(data, path)), data, path)
    } else if (issue.code === 'invalid_key') {
      yield { path, at: 'key', message: issue.message }
      // A name that is refused must not hide what is wrong below it.
      const entry = ENTRIES[String(path.at(-2))]?.safeParse(valueAt(data, path), {
        error: sentence,
      })
      yield* schemaFindings(entry?.error?.issues ?? [], data, path)
    } else {
      yield { path, message: issue.message }
    }
  }
}

/** The file with what the schema refused taken out, for the rules between fields. */
function draftOf(data: unknown, refused: readonly Finding[]): FleetDraft {
  const draft = structuredClone(data)
  for (const { path, at } of refused) {
    const parent = valueAt(draft, path.slice(0, -1)) as Record<string | number, unknown> | null
    const last = path.at(-1)
    if (last === undefined) return null
    if (typeof parent !== 'object' || parent === null) continue
    if (at !== 'key') parent[last] = null
  }
  return draft as FleetDraft
}

/**
 * Reads and checks a `fleet.yaml`.
 *
 * @returns the file with its defaults filled in, or every mistake in it, by line
 */
export function checkFleet(
  text: string,
):
  | { readonly ok: true; readonly fleet: FleetFile }
  | { readonly ok: false; readonly problems: readonly Problem[] } {
  const source = readSource(text)
  if (!('data' in source)) return { ok: false, problems: source }
  const parsed = FleetFile.safeParse(source.data, { error: sentence })
  const refused = [...schemaFindings(parsed.error?.issues ?? [], source.data)]
  const draft = draftOf(source.data, refused)
  const rules = [siteRules, settingRules, instanceRules, modelRules, termsRules]
  const crossed = draft === null ? [] : rules.flatMap((rule) => [...rule(draft)])
  if (parsed.success && crossed.length === 0) return { ok: true, fleet: parsed.data }
  const problems = new Map<string, Problem>() // a default that is wrong for five pools is one mistake
  for (const { path, message, at } of [...refused, ...crossed]) {
    const problem = source.problem(path, message, at)
    const isSetting = path[0] === 'defaults'
    const key = isSetting ? problem.path : `${problem.path} ${message}`
    if (!problems.has(key)) problems.set(key, problem)
  }
  return {
    ok: false,
    problems: [...problems.values()].sort((a, b) => a.line - b.line || a.column - b.column),
  }
}
