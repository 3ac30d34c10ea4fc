/** What is said of a tenant, on the command line or in a line of CSV, and what the API is told. */

/** As it is written; absent: not said. */
export interface TenantWords {
  readonly plan?: string
  readonly rpm?: string
  readonly tpm?: string
  readonly concurrency?: string
  readonly tokensPerDay?: string
  readonly tokensPerMonth?: string
  readonly class?: string
  readonly models?: string
  readonly budget?: string
  readonly budgetStop?: boolean
}

const LIMITS = ['rpm', 'tpm', 'concurrency', 'tokensPerDay', 'tokensPerMonth'] as const
const CLASSES = ['interactive', 'standard', 'batch']

/** Takes what a tenant has of its own away: then its plan says. */
const NONE = 'none'

/**
 * The fields of `POST` and `PATCH /admin/tenants`.
 * @throws Error with a sentence for the operator
 */
export function tenantFields(words: TenantWords): Readonly<Record<string, unknown>> {
  const overrides: Record<string, unknown> = {}
  for (const name of LIMITS) {
    const text = words[name]
    if (text !== undefined) overrides[name] = limitIn(name, text)
  }
  if (words.class !== undefined) overrides['class'] = classIn(words.class)
  if (words.models !== undefined) {
    overrides['models'] = words.models === NONE ? null : modelsIn(words.models)
  }
  const { plan } = words
  const budget = budgetIn(words)
  return {
    ...(plan !== undefined && { plan: plan === NONE ? null : plan }),
    ...(Object.keys(overrides).length > 0 && { overrides }),
    ...(budget !== undefined && { budget }),
  }
}

/** `qwen claude-*`, separated by spaces or commas. */
export const modelsIn = (text: string): readonly string[] =>
  text.split(/[\s,]+/).filter((model) => model !== '')

/** A whole number of at least 1, also `400_000`; null for anything else. */
export function wholeIn(text: string): number | null {
  const plain = /^\d+(?:_\d+)*$/.test(text) ? Number(text.replaceAll('_', '')) : 0
  return plain >= 1 && Number.isSafeInteger(plain) ? plain : null
}

/** Money, more than 0; null for anything else. */
export function amountIn(text: string): number | null {
  const amount = /^\d+(?:_\d+)*(?:\.\d+)?$/.test(text) ? Number(text.replaceAll('_', '')) : 0
  return amount > 0 ? amount : null
}

function limitIn(name: string, text: string): number | 'unlimited' | null {
  if (text === NONE) return null
  if (text === 'unlimited') return text
  const limit = wholeIn(text)
  if (limit !== null) return limit
  throw new Error(
    `${named(name)}: write a whole number of at least 1, unlimited, or none for what the plan says`,
  )
}

function classIn(text: string): string | null {
  if (text === NONE) return null
  if (CLASSES.includes(text)) return text
  throw new Error(`class: write ${CLASSES.join(', ')}, or none for what the plan says`)
}

function budgetIn({ budget, budgetStop: stop }: TenantWords): object | null | undefined {
  if (budget === NONE) return null
  if (budget === undefined) return stop === undefined ? undefined : { stop }
  const monthly = amountIn(budget)
  if (monthly === null) throw new Error('budget: write an amount of more than 0, or none')
  return { monthly, ...(stop !== undefined && { stop }) }
}

/** `tokensPerDay` as it is written: `tokens_per_day`. */
export const named = (name: string): string =>
  name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
