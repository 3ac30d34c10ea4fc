/** The ledger as others read it: names with underscores, as in OpenAI's API, and as CSV (RFC 4180). */
import type { UsageRow } from './contract.ts'

/** One line of an export over several tenants. */
export interface TenantUsage extends UsageRow {
  readonly tenant: string
}

/** Costs are sums of fractions of a cent: beyond this many digits is only what floating point adds. */
const COST_DIGITS = 9

/** Money without the noise of floating point. */
export const money = (amount: number): number => Number(amount.toFixed(COST_DIGITS))

/** A row of the ledger in the tenants' API. */
export const publicUsage = (row: UsageRow) => ({
  period: row.period,
  key: row.key,
  model: row.model,
  requests: row.requests,
  errors: row.errors,
  limited: row.limited,
  prompt_tokens: row.promptTokens,
  cached_tokens: row.cachedTokens,
  completion_tokens: row.completionTokens,
  estimated_tokens: row.estimatedTokens,
  cost: money(row.cost),
})

const COLUMNS = `tenant,period,key,model,requests,errors,limited,prompt_tokens,cached_tokens,
  completion_tokens,estimated_tokens,cost,currency`.split(/,\s*/)

/** The first line of an export. */
export const usageCsvHead = (): string => csvLine(COLUMNS)

/**
 * Lines of an export, without the first.
 * @param currency ISO 4217; null where the fleet names none
 */
export function usageCsvLines(rows: readonly TenantUsage[], currency: string | null): string {
  return rows
    .map((row) => {
      const { cost, ...rest } = publicUsage(row)
      return csvLine([row.tenant, ...Object.values(rest), decimal(cost), currency ?? ''])
    })
    .join('')
}

/** One line, its end included; cells with commas, quotes or line breaks are quoted. */
export const csvLine = (cells: readonly (string | number)[]): string =>
  `${cells.map((cell) => quoted(String(cell))).join(',')}\r\n`

const quoted = (cell: string): string =>
  /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell

/** Never `1e-7`, which not every reader of CSV takes for a number. */
const decimal = (amount: number): string =>
  amount
    .toFixed(COST_DIGITS)
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '')
