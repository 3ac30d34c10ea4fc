import type { Allowance, Allowances } from '../../durable-objects/tenant/contract.ts'

const KINDS = ['requests', 'tokens'] as const
const ASPECTS = ['limit', 'remaining', 'reset'] as const

/** Headers that a browser's script may read. */
export const ALLOWANCE_HEADERS: readonly string[] = ASPECTS.flatMap((aspect) =>
  KINDS.map((kind) => `x-ratelimit-${aspect}-${kind}`),
)

/** OpenAI's names for what is left of the limits per minute; nothing where there are none. */
export function allowanceHeaders(allowances: Allowances): [name: string, value: string][] {
  return KINDS.flatMap((kind) => {
    const allowance = allowances[kind]
    return allowance === null ? [] : headersOf(kind, allowance)
  })
}

const headersOf = (
  kind: (typeof KINDS)[number],
  { limit, remaining, resetMs }: Allowance,
): [string, string][] => [
  [`x-ratelimit-limit-${kind}`, String(limit)],
  [`x-ratelimit-remaining-${kind}`, String(remaining)],
  [`x-ratelimit-reset-${kind}`, durationOf(resetMs)],
]

/** As OpenAI writes durations: `20ms`, `1.5s`, `1m0s`. */
export function durationOf(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.ceil(ms))}ms`
  const seconds = Math.ceil(ms / 100) / 10
  if (seconds < 60) return `${seconds}s`
  return `${Math.floor(seconds / 60)}m${Math.round((seconds % 60) * 10) / 10}s`
}
