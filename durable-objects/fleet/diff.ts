/** What changes from one fleet file to another, in sentences and in a stable order. */
import { checkFleet } from './check.ts'
import { byName, entryDifferences, leafDifferences, type Difference } from './diff-entries.ts'
import { modelDifferences } from './diff-models.ts'
import { builtIn, poolDifferences } from './diff-pools.ts'
import { child, keysOf, type Default, type Node } from './diff-values.ts'
import type { FleetFile } from './schema.ts'
import { readSource } from './source.ts'

export type { Difference } from './diff-entries.ts'

/** A checked file, and the same as it was written, for showing values as the operator knows them. */
export interface FleetSource {
  readonly fleet: FleetFile
  /** The YAML's data. */
  readonly written: unknown
}

/** Reads a file for comparing it; null when this release would not accept it. */
export function sourceOf(text: string): FleetSource | null {
  const checked = checkFleet(text)
  const source = readSource(text)
  return checked.ok && 'data' in source ? { fleet: checked.fleet, written: source.data } : null
}

/**
 * Compares two files. Only what they mean counts: comments, the order of keys, or whether a minute is
 * written 60s or 1m, are no difference.
 *
 * @param before null: there was none, and everything is new
 */
export function diffFleets(before: FleetSource | null, after: FleetSource): readonly Difference[] {
  const b: Node = { value: after.fleet, written: after.written }
  // Of the first file only what it says is new, not what holds without a word.
  const a = before ? { value: before.fleet, written: before.written } : unsaid(b)
  const sections = new Set([...Object.keys(SECTIONS), ...keysOf(a.value, b.value)])
  return [...sections].flatMap((name) => {
    const own = SECTIONS[name]
    return own ? [...own(a, b)] : [...leafDifferences(child(a, name), child(b, name), [name], name)]
  })
}

/** The sections that a file does not have, with what the schema filled in. */
const unsaid = (file: Node): Node => {
  const said = new Set(keysOf(file.written))
  const sections = Object.entries(file.value as object).filter(([name]) => !said.has(name))
  return { value: Object.fromEntries(sections), written: undefined }
}

/** Takes two whole files. */
type Section = (before: Node, after: Node) => Iterable<Difference>

/** A map whose entries are told field by field. */
const fieldsOf =
  (section: string, noun: string, absent?: Default): Section =>
  (before, after) =>
    entryDifferences(child(before, section), child(after, section), {
      path: [section],
      noun,
      inside: (a, b, name) => leafDifferences(a, b, [section, name], `${noun} ${name}`, absent),
    })

const LIMIT = /^(?:rpm|tpm|concurrency|tokens_per_\w+)$/

/** Parts of which more can be said than what stood there and what stands there now, in this order. */
const SECTIONS: Readonly<Record<string, Section>> = {
  models: modelDifferences,
  pools: poolDifferences,
  sites: fieldsOf('sites', 'site'),
  defaults: (before, after) =>
    leafDifferences(
      child(before, 'defaults'),
      child(after, 'defaults'),
      ['defaults'],
      'defaults',
      builtIn,
    ),
  plans: fieldsOf('plans', 'plan', ([field]) => (LIMIT.test(String(field)) ? 'no limit' : null)),
  webhooks: (before, after) => {
    const [a, b] = [before, after].map((file) => ({
      value: { webhooks: byName(child(file, 'webhooks'), secretOf).value },
      written: { webhooks: byName(child(file, 'webhooks'), secretOf).written },
    })) as [Node, Node]
    return fieldsOf('webhooks', 'webhook')(a, b)
  },
}

const secretOf = (webhook: unknown): string => (webhook as FleetFile['webhooks'][number]).url_secret
