/** What models are called in a file that may have mistakes, for the rules between its fields. */
import { aliasFor } from './model-glob.ts'
import { unknownName } from './rules.ts'
import type { FleetDraft } from './rules.ts'

export type ModelDraft = NonNullable<NonNullable<NonNullable<FleetDraft>['models']>[string]>
/** By name; about a refused one nothing is known. */
export type ModelDrafts = readonly (readonly [name: string, model: ModelDraft])[]

/** What is wrong with the name of a model that another one leads to; null where nothing is. */
export function strayModel(model: string, models: ModelDrafts): string | null {
  const names = models.map(([name]) => name)
  if (names.includes(model)) return null
  const owners = new Map(
    models.flatMap(([name, { aliases }]) =>
      (aliases ?? []).flatMap((alias) => (alias === null ? [] : [[alias, name] as const])),
    ),
  )
  const alias = aliasFor(model, owners.keys())
  if (alias === null) return unknownName('model', model, names)
  return `${model} is an alias; write the model's name, ${owners.get(alias)}`
}
