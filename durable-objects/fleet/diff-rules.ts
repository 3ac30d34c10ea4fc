/** What changes in a model's rules: the first that holds decides, so places count. */
import { difference, type Difference } from './diff-entries.ts'
import { plain, same, type Node } from './diff-values.ts'
import { canonicalJson } from './fingerprint.ts'
import type { RuleSpec } from './rule-schema.ts'
import type { Path } from './source.ts'

const texts = (list: readonly string[]): string => list.map(plain).join(' or ')

const byKey = <T>(map: Readonly<Record<string, T>>): readonly [string, T][] =>
  Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1))

const said = (is: boolean | undefined, what: string): string | null =>
  is === undefined ? null : is ? what : `no ${what}`

/** `tenant acme and user u-7* or u-8*`. */
function whenText({ header, prompt_tokens_over: over, ...when }: RuleSpec['when']): string {
  const parts = [
    ...byKey(header ?? {}).map(([name, values]) => `header ${name} ${texts(values)}`),
    ...(['tenant', 'plan', 'key', 'user'] as const).map((who) => {
      const names = when[who]
      return names === undefined ? null : `${who} ${texts(names)}`
    }),
    over === undefined ? null : `prompt over ${plain(over)} tokens`,
    said(when.tools, 'tools'),
    said(when.images, 'images'),
    said(when.stream, 'stream'),
  ]
  return parts.filter((part) => part !== null).join(' and ')
}

/** `when tenant acme: arm canary`. */
function ruleText({ when, arm, arms, model }: RuleSpec): string {
  const weights = byKey(arms ?? {}).map(([name, weight]) => `${name} ${plain(weight)}`)
  const leads = [
    ...(arm === undefined ? [] : [`arm ${arm}`]),
    ...(arms === undefined ? [] : [`arms ${plain(weights)}`]),
    ...(model === undefined ? [] : [`model ${model}`]),
  ]
  return `when ${whenText(when)}: ${leads.join(', ')}`
}

/** A rule, what it says, and what tells it from others: two may read the same. No file has one twice. */
interface Told {
  readonly text: string
  readonly key: string
}

const toldOf = ({ value }: Node): readonly Told[] =>
  ((value ?? []) as readonly RuleSpec[]).map((rule) => ({
    text: ruleText(rule),
    key: canonicalJson(rule),
  }))

/** Those of one file that are in the other too, in the order of the first. */
const stayed = (rules: readonly Told[], others: readonly Told[]): readonly Told[] =>
  rules.filter(({ key }) => others.some((other) => other.key === key))

/** A sentence for each rule that came, went or is another one now, by its place in the file. */
export function* ruleDifferences(
  before: Node,
  after: Node,
  path: Path,
  model: string,
): Generator<Difference> {
  const [old, now] = [toldOf(before), toldOf(after)]
  const [kept, stay] = [stayed(old, now), stayed(now, old)]
  for (let i = 0; i < Math.max(old.length, now.length); i++) {
    const [from, to] = [old[i], now[i]]
    const isGone = from !== undefined && !kept.includes(from)
    const isNew = to !== undefined && !stay.includes(to)
    const at = [...path, i]
    const rule = `${model}: rule ${i + 1}`
    if (isGone && isNew) yield difference('changed', at, `${rule}: ${from.text} → ${to.text}`)
    else if (isGone) yield difference('removed', at, `${rule} removed: ${from.text}`)
    else if (isNew) yield difference('added', at, `${rule} added: ${to.text}`)
  }
  if (!same(kept, stay)) {
    const order = stay.map(({ text }) => text).join('; ')
    yield difference('changed', path, `${model}: its rules stand in another order: ${order}`)
  }
}
