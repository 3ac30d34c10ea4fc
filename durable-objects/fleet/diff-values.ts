/** Values of two fleet files side by side: which differ, and how each is shown as its file has it. */
import { canonicalJson } from './fingerprint.ts'
import { pathText } from './source.ts'
import type { Path } from './source.ts'
import { formatDuration } from './units.ts'

/** A value in two forms. */
export interface Node {
  /** As the schema reads it: milliseconds, bytes, defaults filled in. */
  readonly value: unknown
  /** As it stands in the file; undefined where the file does not say it. */
  readonly written: unknown
}

export interface Leaf {
  /** Below where the comparison began. */
  readonly path: Path
  /** What differs, as a phrase: `queue.max 64 (default) → 128`. */
  readonly phrase: string
}

/** What holds where a file says nothing: a value, or a word for it; null where nothing does. */
export type Default = (path: Path) => Node | string | null

export const NOTHING: Node = { value: undefined, written: undefined }

type Fields = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isList = (value: unknown): value is readonly unknown[] => Array.isArray(value)

const at = (value: unknown, key: string | number): unknown => {
  if (isList(value)) return value[Number(key)]
  return isMap(value) && Object.hasOwn(value, key) ? value[key] : undefined
}

/** What is below a node: by its key in a map, by its place in a list. */
export const child = ({ value, written }: Node, key: string | number): Node => ({
  value: at(value, key),
  written: at(written, key),
})

export const below = (node: Node, path: Path): Node => path.reduce<Node>(child, node)

/** Keys of two maps together, in one order however the files are written. */
export const keysOf = (...maps: readonly unknown[]): readonly string[] =>
  [...new Set(maps.flatMap((map) => (isMap(map) ? Object.keys(map) : [])))].sort()

export const same = (before: unknown, after: unknown): boolean =>
  canonicalJson({ it: before }) === canonicalJson({ it: after })

const isMapOrNothing = (value: unknown): boolean => value === undefined || isMap(value)

const hasMaps = (value: unknown): boolean => isList(value) && value.some(isMap)

/** Everything in which two values differ, in a stable order. @param path for the recursion */
export function* leavesOf(
  before: Node,
  after: Node,
  absent: Default = () => null,
  path: Path = [],
): Generator<Leaf> {
  const [a, b] = [before.value, after.value]
  if (same(a, b)) return
  if (isMapOrNothing(a) && isMapOrNothing(b)) {
    for (const key of keysOf(a, b)) {
      yield* leavesOf(child(before, key), child(after, key), absent, [...path, key])
    }
  } else if (isList(a) && isList(b) && (hasMaps(a) || hasMaps(b))) {
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      const inner = [...path, i]
      if (i >= a.length) yield { path: inner, phrase: `${pathText(inner)} added` }
      else if (i >= b.length) yield { path: inner, phrase: `${pathText(inner)} removed` }
      else yield* leavesOf(child(before, i), child(after, i), absent, inner)
    }
  } else {
    const name = pathText(path)
    for (const phrase of phrases(before, after, absent(path))) {
      yield { path, phrase: name === '' ? phrase : `${name} ${phrase}` }
    }
  }
}

/** `a → b`; of lists that both files write, what joined them and what left. */
function phrases(before: Node, after: Node, absent: ReturnType<Default>): readonly string[] {
  const [a, b] = [before.value, after.value]
  if (isList(a) && isList(b) && before.written !== undefined && after.written !== undefined) {
    const left = a.filter((item) => !b.includes(item))
    const joined = b.filter((item) => !a.includes(item))
    const stayed = a.filter((item) => b.includes(item))
    if (
      left.length + joined.length > 0 &&
      same(
        stayed,
        b.filter((item) => a.includes(item)),
      )
    ) {
      return [
        ...joined.map((item) => `${plain(item)} added`),
        ...left.map((item) => `${plain(item)} removed`),
      ]
    }
  }
  const [from, to] = [shown(before, after, absent), shown(after, before, absent)]
  return [`${from} → ${to}`]
}

/** A value as its file has it; one that the file does not say, in the other one's unit. */
function shown(node: Node, other: Node, absent: ReturnType<Default>): string {
  if (node.value !== undefined && node.written !== undefined) return plain(node.written)
  if (node.value === undefined && typeof absent === 'string') return absent
  const { value, written } = node.value === undefined ? asNode(absent) : node
  if (value === undefined || value === null) return 'not set'
  return `${plain(written ?? inUnitOf(other.written, value))} (default)`
}

/** A value that holds, as its file has it, or as one would write it. */
export function writtenOr({ value, written }: Node, example: unknown): string {
  return plain(written ?? inUnitOf(example, value))
}

const asNode = (absent: ReturnType<Default>): Node =>
  typeof absent === 'object' && absent !== null ? absent : NOTHING

const BYTES = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

function inUnitOf(example: unknown, value: unknown): unknown {
  if (typeof example !== 'string' || typeof value !== 'number') return value
  if (/^\d.*(?:s|m|h)$/.test(example)) return formatDuration(value)
  if (!/^\d.*B$/.test(example)) return value
  const unit = (['GiB', 'MiB', 'KiB'] as const).find((name) => value % BYTES[name] === 0)
  return unit === undefined ? value : `${value / BYTES[unit]}${unit}`
}

/** A share of 1 as people say it: `5 %`. @param digits that count */
export const percent = (share: number, digits = 3): string =>
  `${Number((share * 100).toPrecision(digits))} %`

/** A value in a sentence: text without quotes, numbers in groups as YAML has them. */
export function plain(value: unknown): string {
  if (isList(value)) return value.length === 0 ? 'none' : value.map(plain).join(', ')
  if (typeof value === 'number' && Number.isInteger(value) && value >= 10_000) {
    return String(value).replaceAll(/\B(?=(?:\d{3})+$)/g, '_')
  }
  // Whoever writes a file must not write to the terminals of others.
  if (typeof value === 'string' && value !== '' && !/\p{Cc}/u.test(value)) return value
  return JSON.stringify(value)
}
