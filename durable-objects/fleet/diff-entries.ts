/** What two fleet files say of things that have names: what came, what went, what became of the rest. */
import { child, keysOf, leavesOf } from './diff-values.ts'
import type { Default, Node } from './diff-values.ts'
import { pathText } from './source.ts'
import type { Path } from './source.ts'

export interface Difference {
  readonly kind: 'added' | 'removed' | 'changed' | 'moved'
  /** `pools.qwen.instances.qwen-1.slots`: instances and arms by their names. */
  readonly path: string
  /** `instance qwen-1: slots 32 → 64`. */
  readonly sentence: string
}

export const difference = (kind: Difference['kind'], path: Path, sentence: string): Difference => ({
  kind,
  path: pathText(path),
  sentence,
})

/**
 * A sentence for each field that differs.
 * @param subject whose fields these are
 */
export function* leafDifferences(
  before: Node,
  after: Node,
  path: Path,
  subject: string,
  absent?: Default,
): Generator<Difference> {
  for (const leaf of leavesOf(before, after, absent)) {
    const colon = leaf.path.length === 0 ? '' : ':'
    yield difference('changed', [...path, ...leaf.path], `${subject}${colon} ${leaf.phrase}`)
  }
}

export interface Entries {
  /** Where they stand in a file. */
  readonly path: Path
  /** What one of them is called before its name. */
  readonly noun: string
  /** What is told of one that comes or goes, beside its name. */
  readonly told?: (entry: unknown) => string
  readonly inside: (before: Node, after: Node, name: string) => Iterable<Difference>
}

/** Compares two maps of things by their names. */
export function* entryDifferences(
  before: Node,
  after: Node,
  { path, noun, told = () => '', inside }: Entries,
): Generator<Difference> {
  for (const name of keysOf(before.value, after.value)) {
    const [a, b] = [child(before, name), child(after, name)]
    const at = [...path, name]
    if (a.value === undefined) {
      yield difference('added', at, `${noun} ${name} added${told(b.value)}`)
    } else if (b.value === undefined) {
      yield difference('removed', at, `${noun} ${name} removed${told(a.value)}`)
    } else {
      yield* inside(a, b, name)
    }
  }
}

/** A list of maps as a map, by what names each; the second of a name is `name#2`. */
export function byName(list: Node, nameOf: (item: unknown, index: number) => string): Node {
  const items = (list.value ?? []) as readonly unknown[]
  const seen = new Map<string, number>()
  const value: Record<string, unknown> = {}
  const written: Record<string, unknown> = {}
  for (const [i, item] of items.entries()) {
    const name = nameOf(item, i)
    const count = (seen.get(name) ?? 0) + 1
    seen.set(name, count)
    const key = count === 1 ? name : `${name}#${count}`
    const node = child(list, i)
    value[key] = node.value
    written[key] = node.written
  }
  return { value, written }
}

/** A map without some of its fields, for those that are compared in another way. */
export function without({ value, written }: Node, ...keys: readonly string[]): Node {
  const drop = (map: unknown) =>
    Object.fromEntries(Object.entries(map ?? {}).filter(([key]) => !keys.includes(key)))
  return { value: drop(value), written: drop(written) }
}
