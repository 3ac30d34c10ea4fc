import type { MediaTokens, Rule, RuleCondition } from '../../durable-objects/fleet/snapshot.ts'

/** What rules look at of a request. What takes work to find out is asked only by a rule that wants it. */
export interface Traits {
  readonly tenant: string
  /** Id of the key. */
  readonly keyId: string
  /** Null: the tenant has none; undefined: nobody here knows. */
  readonly plan: () => string | null | undefined
  /** The request's own word for its end user; null where it says none. */
  readonly user: string | null
  readonly headers: Pick<Headers, 'get'>
  readonly stream: boolean
  /** Roughly. @param media what pictures and sound weigh */
  readonly promptTokens: (media?: MediaTokens) => number
  readonly tools: () => boolean
  readonly images: () => boolean
}

/**
 * Which rule decides: the first that holds.
 * @param media as in {@link Traits.promptTokens}
 * @returns its index; null where none does
 */
export function ruleFor(
  rules: readonly Rule[] | undefined,
  traits: Traits,
  media?: MediaTokens,
): number | null {
  const found = rules?.findIndex(({ when, off }) => !off && holds(when, traits, media)) ?? -1
  return found === -1 ? null : found
}

/** Whether a model's rules look at the tenant's plan. */
export const looksAtPlan = (rules: readonly Rule[] = []): boolean =>
  rules.some(({ when, off }) => !off && when.plans !== undefined)

/** Whether all that a condition says is so. What is quickly known is looked at first. */
export function holds(when: RuleCondition, traits: Traits, media?: MediaTokens): boolean {
  const { tenants, plans, keys, users, headers = {}, promptTokensOver, tools, images } = when
  return (
    isOne(tenants, traits.tenant) &&
    isOne(keys, traits.keyId) &&
    isOne(users, traits.user) &&
    (plans === undefined || isOne(plans, traits.plan() ?? null)) &&
    Object.entries(headers).every(([name, texts]) => isSent(texts, traits.headers.get(name))) &&
    (when.stream === undefined || when.stream === traits.stream) &&
    (tools === undefined || tools === traits.tools()) &&
    (images === undefined || images === traits.images()) &&
    (promptTokensOver === undefined || traits.promptTokens(media) > promptTokensOver)
  )
}

/** Whether a text is one of those listed, or begins as one of the prefixes does; one that is not there is none. */
function isOne(texts: readonly string[] | undefined, text: string | null): boolean {
  if (texts === undefined) return true
  return text !== null && texts.some((one) => fits(one, text))
}

/** Whether a header is one of the texts listed, or one of its values is: sent twice, it reads `a, b`. */
const isSent = (texts: readonly string[], value: string | null): boolean =>
  isOne(texts, value) || value?.split(',').some((one) => isOne(texts, one.trim())) === true

const fits = (one: string, text: string): boolean =>
  one.endsWith('*') ? text.startsWith(one.slice(0, -1)) : text === one
