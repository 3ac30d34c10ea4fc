/** What changes in what compares a model's arms: its guard, and its shadow. */
import { difference, leafDifferences, without, type Difference } from './diff-entries.ts'
import { child, percent, writtenOr, type Node } from './diff-values.ts'
import type { GuardSpec } from './gray-schema.ts'
import type { ModelSpec } from './model-schema.ts'
import type { Path } from './source.ts'

/** In the order of the documentation. */
const GUARD_FIELDS = [
  'window',
  'min_requests',
  'error_ratio_over',
  'empty_ratio_over',
  'ttft_p95_times',
  'inter_token_p95_times',
] as const satisfies readonly (keyof GuardSpec)[]

const guardText = (guard: Node): string =>
  GUARD_FIELDS.map((field) => {
    const example = field === 'window' ? '2m' : null
    return `${field} ${writtenOr(child(guard, field), example)}`
  }).join(', ')

/** Of one that comes, all that it goes by: most of it is not in the file. */
export function* guardDifferences(
  before: Node,
  after: Node,
  path: Path,
  model: string,
): Generator<Difference> {
  if (before.value !== undefined && after.value !== undefined) {
    yield* leafDifferences(before, after, path, `${model}: guard`)
  } else if (after.value !== undefined) {
    yield difference('added', path, `${model}: guard added: ${guardText(after)}`)
  } else if (before.value !== undefined) {
    yield difference('removed', path, `${model}: guard removed`)
  }
}

const shadowText = ({ value }: Node): string => {
  const { pool, share } = value as NonNullable<ModelSpec['shadow']>
  return `${shareText(share)} of the requests to pool ${pool}`
}

/** With all its digits: two that differ must read differently. */
const shareText = (share: unknown): string => percent(Number(share), 15)

export function* shadowDifferences(
  before: Node,
  after: Node,
  path: Path,
  model: string,
): Generator<Difference> {
  if (before.value !== undefined && after.value !== undefined) {
    const [from, to] = [before, after].map((shadow) => shareText(child(shadow, 'share').value))
    if (from !== to) {
      yield difference('changed', [...path, 'share'], `${model}: shadow ${from} → ${to}`)
    }
    const [a, b] = [without(before, 'share'), without(after, 'share')]
    yield* leafDifferences(a, b, path, `${model}: shadow`)
  } else if (after.value !== undefined) {
    yield difference('added', path, `${model}: shadow added: ${shadowText(after)}`)
  } else if (before.value !== undefined) {
    yield difference('removed', path, `${model}: shadow removed: ${shadowText(before)}`)
  }
}
