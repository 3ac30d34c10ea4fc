/** What changes in models: above all, who gets which share of their requests. */
import {
  byName,
  difference,
  entryDifferences,
  leafDifferences,
  without,
  type Difference,
} from './diff-entries.ts'
import { guardDifferences, shadowDifferences } from './diff-gray.ts'
import { ruleDifferences } from './diff-rules.ts'
import { child, keysOf, percent, plain, same, type Node } from './diff-values.ts'
import { armName, type ModelSpec } from './model-schema.ts'
import type { Path } from './source.ts'

export const modelDifferences = (before: Node, after: Node): Iterable<Difference> =>
  entryDifferences(child(before, 'models'), child(after, 'models'), {
    path: ['models'],
    noun: 'model',
    told: (model) => `: ${armsText(model as ModelSpec)}`,
    inside: insideOf,
  })

type ArmSpec = ModelSpec['arms'][number]

/** Share of a model's requests by arm, 0 to 1. */
function sharesOf({ arms }: Pick<ModelSpec, 'arms'>): ReadonlyMap<string, number> {
  const sum = arms.reduce((total, { weight }) => total + weight, 0)
  return new Map(arms.map((arm, i) => [armName(arm, i), sum === 0 ? 0 : arm.weight / sum] as const))
}

const placeOf = ({ pool, adapter }: ArmSpec): string =>
  adapter === undefined ? `in pool ${pool}` : `in pool ${pool} with adapter ${plain(adapter)}`

/** `stable 95 % in pool qwen-14b, canary 5 % in pool qwen-int8`. */
const armsText = (model: ModelSpec): string => {
  const shares = sharesOf(model)
  return model.arms
    .map((arm, i) => {
      const name = armName(arm, i)
      return `${name} ${percent(shares.get(name) ?? 0)} ${placeOf(arm)}`
    })
    .join(', ')
}

/** What has sentences of its own. */
const TOLD = ['arms', 'rules', 'guard', 'shadow']

function* insideOf(before: Node, after: Node, name: string): Generator<Difference> {
  const path = ['models', name]
  yield* armDifferences(before, after, name, [...path, 'arms'])
  yield* ruleDifferences(child(before, 'rules'), child(after, 'rules'), [...path, 'rules'], name)
  yield* guardDifferences(child(before, 'guard'), child(after, 'guard'), [...path, 'guard'], name)
  yield* shadowDifferences(
    child(before, 'shadow'),
    child(after, 'shadow'),
    [...path, 'shadow'],
    name,
  )
  const [a, b] = [before, after].map((model) => without(model, ...TOLD)) as [Node, Node]
  yield* leafDifferences(a, b, path, name)
}

function* armDifferences(
  before: Node,
  after: Node,
  model: string,
  path: Path,
): Generator<Difference> {
  const [shares, newShares] = [before, after].map(({ value }) => sharesOf(value as ModelSpec)) as [
    ReadonlyMap<string, number>,
    ReadonlyMap<string, number>,
  ]
  const nameOf = (item: unknown, i: number) => armName(item as ArmSpec, i)
  const [old, now] = [before, after].map((node) => byName(child(node, 'arms'), nameOf)) as [
    Node,
    Node,
  ]
  for (const name of keysOf(old.value, now.value)) {
    const [a, b] = [child(old, name), child(now, name)]
    const [from, to] = [shares, newShares].map((map) => percent(map.get(name) ?? 0))
    const at = [...path, name]
    if (a.value === undefined) {
      const place = placeOf(b.value as ArmSpec)
      yield difference('added', at, `${model}: arm ${name} added, ${to} ${place}`)
    } else if (b.value === undefined) {
      yield difference('removed', at, `${model}: arm ${name} removed, it had ${from}`)
    } else {
      const [{ weight }, { weight: newWeight }] = [a.value as ArmSpec, b.value as ArmSpec]
      const isShare = from !== to
      if (isShare)
        yield difference('changed', [...at, 'weight'], `${model}: ${name} ${from} → ${to}`)
      else if (weight !== newWeight) {
        const sentence = `${model}: weight of ${name} ${weight} → ${newWeight}, still ${to}`
        yield difference('changed', [...at, 'weight'], sentence)
      }
      const rest = [a, b].map((arm) => without(arm, 'weight', 'name')) as [Node, Node]
      yield* leafDifferences(...rest, at, `${model}: arm ${name}`)
    }
  }
  const order = keysInOrder(old).filter((name) => keysInOrder(now).includes(name))
  const newOrder = keysInOrder(now).filter((name) => order.includes(name))
  if (!same(order, newOrder)) {
    const sentence = `${model}: its arms stand in another order: ${plain(newOrder)}`
    yield difference('changed', path, sentence)
  }
}

const keysInOrder = ({ value }: Node): readonly string[] => Object.keys(value as object)
