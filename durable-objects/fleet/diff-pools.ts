/** What changes in pools and their instances. */
import {
  difference,
  entryDifferences,
  leafDifferences,
  without,
  type Difference,
} from './diff-entries.ts'
import { below, child, keysOf, plain, same, type Default, type Node } from './diff-values.ts'
import type { FleetFile } from './schema.ts'
import { BUILT_IN } from './settings.ts'
import type { Path } from './source.ts'

export function* poolDifferences(before: Node, after: Node): Generator<Difference> {
  const [a, b] = [child(before, 'pools'), child(after, 'pools')]
  yield* entryDifferences(a, b, {
    path: ['pools'],
    noun: 'pool',
    told: (pool) => `: ${plain(idsOf(pool))}`,
    inside: (own, later, name) => insideOf(own, later, name, [before, after]),
  })
  yield* instanceDifferences(a, b)
}

/** What holds where neither a pool nor the defaults say anything. */
export const builtIn: Default = (path) => below({ value: BUILT_IN, written: undefined }, path)

/** What holds in a file where a pool says nothing. */
const inherited = (file: Node, path: Path): ReturnType<Default> => {
  const own = below(child(file, 'defaults'), path)
  return own.value === undefined ? builtIn(path) : own
}

function* insideOf(
  before: Node,
  after: Node,
  name: string,
  [oldFile, newFile]: readonly [Node, Node],
): Generator<Difference> {
  const path = ['pools', name]
  const absent: Default = (field) =>
    inherited(below(after, field).value === undefined ? newFile : oldFile, field)
  const [a, b] = [without(before, 'instances'), without(after, 'instances')]
  yield* leafDifferences(a, b, path, `pool ${name}`, absent)

  const [old, now] = [idsOf(before.value), idsOf(after.value)]
  const stayed = now.filter((id) => old.includes(id))
  if (
    !same(
      stayed,
      old.filter((id) => now.includes(id)),
    )
  ) {
    const sentence = `pool ${name}: its instances stand in another order: ${plain(stayed)}`
    yield difference('changed', [...path, 'instances'], sentence)
  }
}

const idsOf = (pool: unknown): readonly string[] =>
  (pool as FleetFile['pools'][string]).instances.map(({ id }) => id)

interface Place {
  readonly pool: string
  readonly node: Node
}

/** Every instance with its pool: ids are unique in a file, so that one may move. */
function placesOf(pools: Node): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>()
  for (const pool of keysOf(pools.value)) {
    const node = child(pools, pool)
    for (const [i, id] of idsOf(node.value).entries()) {
      places.set(id, { pool, node: below(node, ['instances', i]) })
    }
  }
  return places
}

function* instanceDifferences(before: Node, after: Node): Generator<Difference> {
  const [old, now] = [placesOf(before), placesOf(after)]
  const hasPool = (pools: Node, pool: string): boolean => child(pools, pool).value !== undefined
  for (const id of [...new Set([...old.keys(), ...now.keys()])].sort()) {
    const [a, b] = [old.get(id), now.get(id)]
    const path = ['pools', (b ?? a)?.pool ?? '', 'instances', id]
    // Those that come or go with their whole pool have been named with it.
    if (a && b) {
      if (a.pool !== b.pool) {
        const sentence = `instance ${id} moved from pool ${a.pool} to pool ${b.pool}`
        yield difference('moved', path, sentence)
      }
      yield* leafDifferences(a.node, b.node, path, `instance ${id}`)
    } else if (b && hasPool(before, b.pool)) {
      yield difference('added', path, `instance ${id} added to pool ${b.pool}`)
    } else if (a && hasPool(after, a.pool)) {
      yield difference('removed', path, `instance ${id} removed from pool ${a.pool}`)
    }
  }
}
