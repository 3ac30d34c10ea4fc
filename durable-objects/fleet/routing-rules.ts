/** What must hold between a model's rules, and between them, its arms, other models and plans. */
import { canonicalJson } from './fingerprint.ts'
import { isGlob, matchesModel } from './model-glob.ts'
import { strayModel } from './model-names.ts'
import type { ModelDraft, ModelDrafts } from './model-names.ts'
import { armName } from './model-schema.ts'
import { entries, unknownName } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'
import type { Path } from './source.ts'

type RuleDraft = NonNullable<NonNullable<ModelDraft['rules']>[number]>
type WhenDraft = NonNullable<RuleDraft['when']>

/** A model's arms as requests name them; null where one of them was refused, and may be any. */
function armsOf({ arms }: ModelDraft): readonly string[] | null {
  const names = (arms ?? []).map((arm, index) =>
    arm === null || arm.name === null || typeof arm.pool !== 'string'
      ? null
      : armName({ name: arm.name, pool: arm.pool }, index),
  )
  return names.length > 0 && names.every((name) => name !== null) ? names : null
}

/** What stands under a key that takes one text or several, each with its place. */
function* textsAt(texts: unknown, path: Path): Generator<{ text: string; path: Path }> {
  if (typeof texts === 'string') yield { text: texts, path }
  for (const [index, text] of Array.isArray(texts) ? texts.entries() : []) {
    if (typeof text === 'string') yield { text, path: [...path, index] }
  }
}

function* planRules(when: WhenDraft, path: Path, plans: readonly string[]): Generator<Finding> {
  for (const { text, path: at } of textsAt(when.plan, [...path, 'plan'])) {
    if (plans.some((plan) => matchesModel(text, plan))) continue
    const known = plans.length > 0 ? `there are ${plans.join(', ')}` : 'there are none'
    const message = isGlob(text)
      ? `${text} is the beginning of no plan; ${known}`
      : unknownName('plan', text, plans)
    yield { path: at, message }
  }
}

/** One text is as good as a list of it, and the order of a list says nothing. */
function normal(part: unknown): unknown {
  if (typeof part === 'string') return [part]
  if (Array.isArray(part)) return part.map(String).sort()
  if (typeof part !== 'object' || part === null) return part
  return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, normal(inner)]))
}

const wasRefused = (part: unknown): boolean =>
  part === null || (typeof part === 'object' && Object.values(part).some(wasRefused))

const LEADS = ['arm', 'arms', 'model'] as const

function* leadRules(
  rule: RuleDraft,
  path: Path,
  [name, model]: ModelDrafts[number],
  models: ModelDrafts,
): Generator<Finding> {
  const [lead, ...more] = LEADS.filter((key) => rule[key] !== undefined)
  if (lead === undefined) {
    const message =
      'leads nowhere; write one of arm: canary, arms: { stable: 50, canary: 50 }, model: NAME'
    yield { path, message }
  } else if (more.length > 0) {
    const message = `has ${[lead, ...more].join(' and ')}: keep the one that it should lead to`
    yield { path, message }
  }
  const arms = armsOf(model)
  const strayArm = (arm: string): string | null =>
    arms === null || arms.includes(arm) ? null : unknownName(`arm of ${name}`, arm, arms)

  if (typeof rule.arm === 'string') {
    const message = strayArm(rule.arm)
    if (message !== null) yield { path: [...path, 'arm'], message }
  }
  for (const [arm] of entries(rule.arms)) {
    const message = strayArm(arm)
    if (message !== null) yield { path: [...path, 'arms', arm], at: 'key', message }
  }
  if (rule.arms && Object.values(rule.arms).every((weight) => weight === 0)) {
    const message = 'gives no arm a weight above 0: nothing could be chosen'
    yield { path: [...path, 'arms'], at: 'key', message }
  }
  if (typeof rule.model === 'string') {
    const message =
      rule.model === name
        ? 'leads to its own model; write arm or arms, or name another model'
        : strayModel(rule.model, models)
    if (message !== null) yield { path: [...path, 'model'], message }
  }
}

/** Every rule about the rules of one model. */
export function* routingRules(
  own: ModelDrafts[number],
  models: ModelDrafts,
  plans: NonNullable<FleetDraft>['plans'],
): Generator<Finding> {
  const [name, { rules }] = own
  const before = new Map<string, number>()
  for (const [index, rule] of (rules ?? []).entries()) {
    if (rule === null) continue
    const path = ['models', name, 'rules', index]
    yield* leadRules(rule, path, own, models)
    if (!rule.when) continue
    const at = [...path, 'when']
    if (plans !== null) yield* planRules(rule.when, at, Object.keys(plans ?? {}))
    if (Object.keys(rule.when).length === 0) {
      const message =
        "is empty, so that every request would meet it: give the model's arms these weights instead"
      yield { path: at, at: 'key', message }
      continue
    }
    const meaning = wasRefused(rule.when) ? null : canonicalJson(normal(rule.when))
    const first = meaning === null ? undefined : before.get(meaning)
    if (first !== undefined) {
      const message = `rules[${first}] has the same when, and the first that holds decides: this one is never reached`
      yield { path: at, at: 'key', message }
    } else if (meaning !== null) before.set(meaning, index)
  }
}
