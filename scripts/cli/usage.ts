import process from 'node:process'
import type { Command } from 'commander'
import {
  usageCsvHead,
  usageCsvLines,
  type TenantUsage,
} from '../../durable-objects/tenant/usage-csv.ts'
import { NO_USE, sumOf, type Use } from '../../durable-objects/tenant/use.ts'
import { callAdmin } from './admin-api.ts'
import { alignedRight, amount, fits, fitted, short } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson, table } from './output.ts'
import { pagesOf } from './pages.ts'

interface Options extends Networked {
  readonly from?: string
  readonly to?: string
  readonly by?: string
  readonly csv?: boolean
  readonly keys?: boolean
}

interface Head {
  readonly currency: string | null
  readonly timeZone: string
  readonly from: string
  readonly to: string
  readonly by: string
}

type Answer = Head & { readonly data: readonly Omit<TenantUsage, 'tenant'>[] }
type Page = Head & { readonly data: readonly TenantUsage[]; readonly next: string | null }

/** Tenants whose ledgers are read at once. */
const PAGE = 100

async function usage(tenant: string | undefined, options: Options): Promise<void> {
  const { url, json, csv, from, to, by, keys = false } = options
  if (json && csv) throw new Failure(EXIT.invalid, 'either --json or --csv')
  const query = { from, to, by }
  const pages = tenant === undefined ? allTenants(url, query) : oneTenant(url, tenant, query)
  const rows: TenantUsage[] = []
  let head: Head | null = null
  for await (const { next: _, data, ...rest } of pages) {
    if (csv) {
      if (!head) process.stdout.write(usageCsvHead())
      process.stdout.write(usageCsvLines(data, rest.currency))
    } else rows.push(...data)
    head = rest
  }
  if (csv || !head) return
  if (json) return printJson({ ...(tenant !== undefined && { tenant }), ...head, data: rows })
  const span = `${head.from} to ${head.to}, without its end; days of ${head.timeZone}`
  if (rows.length === 0) return print(`nothing was used from ${span}`)
  return print(
    `${paint.dim(span)}\n${usagePicture(rows, head, { keys, tenants: tenant === undefined })}`,
  )
}

const allTenants = (url: string | undefined, query: Query): AsyncIterable<Page> =>
  pagesOf<Page>(url, ['usage'], { limit: PAGE, ...query })

type Query = Readonly<Record<string, string | undefined>>

async function* oneTenant(
  url: string | undefined,
  tenant: string,
  query: Query,
): AsyncGenerator<Page> {
  const { data, ...head } = await callAdmin<Answer>(url, ['tenants', tenant, 'usage'], { query })
  yield { ...head, data: data.map((row) => ({ tenant, ...row })), next: null }
}

/** Title and value. */
type Column = readonly [title: string, read: (row: Use) => number]

/** These stay, whatever they are. */
const MAIN: ReadonlySet<string> = new Set(['requests', 'prompt', 'answers'])
/** Left out one after the other while lines are too long. */
const DISPENSABLE = ['cached', 'estimated', 'limited', 'errors']

const COLUMNS: readonly Column[] = [
  ['requests', ({ requests }) => requests],
  ['errors', ({ errors }) => errors],
  ['limited', ({ limited }) => limited],
  ['prompt', ({ promptTokens }) => promptTokens],
  ['cached', ({ cachedTokens }) => cachedTokens],
  ['answers', ({ completionTokens }) => completionTokens],
  ['estimated', ({ estimatedTokens }) => estimatedTokens],
]

/** Names are not shortened beyond this. */
const LEAST_NAME = 12

interface Wish {
  /** A line for each key. */
  readonly keys: boolean
  readonly tenants: boolean
}

/**
 * A table with a line of sums, of what is not 0 throughout. Keys are summed up unless they are asked for.
 */
export function usagePicture(
  rows: readonly TenantUsage[],
  { currency }: Pick<Head, 'currency'>,
  { keys, tenants }: Wish,
): string {
  const titles = ['period', ...(tenants ? ['tenant'] : []), ...(keys ? ['key'] : []), 'model']
  const namesOf = ({ tenant, period, key, model }: TenantUsage): string[] => [
    period,
    ...(tenants ? [tenant] : []),
    ...(keys ? [key] : []),
    model,
  ]
  const sums = new Map<string, { names: string[]; counts: Use }>()
  for (const row of rows) {
    const names = namesOf(row)
    const id = JSON.stringify(names)
    const counts = sums.get(id)?.counts
    sums.set(id, { names, counts: counts ? sumOf(counts, row) : row })
  }
  const total = ['total', ...titles.slice(1).map(() => '')]
  const cost = currency === null ? 'cost' : `cost ${currency}`

  const linesOf = (columns: readonly Column[]): readonly (readonly string[])[] => {
    const numbers = (counts: Use): string[] => [
      ...columns.map(([, read]) => short(read(counts))),
      amount(counts.cost),
    ]
    const all = [
      [...titles, ...columns.map(([title]) => title), cost],
      ...[...sums.values()].map(({ names, counts }) => [...names, ...numbers(counts)]),
      [...total, ...numbers(rows.reduce<Use>(sumOf, NO_USE))],
    ]
    const byModel = fitted(all, titles.length - 1, LEAST_NAME)
    return tenants ? fitted(byModel, 1, LEAST_NAME) : byModel
  }
  let columns = COLUMNS.filter(([title, read]) => MAIN.has(title) || rows.some(read))
  let lines = linesOf(columns)
  const left: string[] = []
  for (const title of DISPENSABLE) {
    if (fits(lines)) break
    if (columns.some(([it]) => it === title)) left.push(title)
    columns = columns.filter(([it]) => it !== title)
    lines = linesOf(columns)
  }
  const [head = [], ...body] = lines
  const right = new Set([...head.keys()].filter((column) => column >= titles.length))
  const aligned = alignedRight(head, body, right)
  const picture = table(aligned.head, aligned.rows)
  if (left.length === 0) return picture
  return `${picture}\n${paint.dim(`left out for want of room: ${left.join(', ')}; --csv has all`)}`
}

/** `usage`: what tenants have used, to look at or to bill. */
export function addUsageCommand(program: Command): void {
  networked(program.command('usage'))
    .summary('show what a tenant, or every tenant, has used')
    .description('show what a tenant, or every tenant, has used; this month unless said')
    .argument('[tenant]')
    .option('--from <day>', '2026-11, 2026-11-23 or 2026-11-23T14:00Z')
    .option('--to <day>', 'the same; not part of it')
    .option('--by <period>', 'hour, day or month', 'day')
    .option('--keys', 'a line for each key, too')
    .option('--csv', 'print CSV, every number in full')
    .action(usage)
}
