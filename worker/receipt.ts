import type { Allowances } from '../durable-objects/tenant/contract.ts'

/** What a request went through, filled in as it goes. The only place where internal names are told. */
export interface Receipt {
  readonly requestId: string
  model?: string
  arm?: string
  pool?: string
  instance?: string
  /** Why this instance. */
  reason?: string
  attempts?: number
  fleet?: number
  /** Fields and headers of the tenant's that were taken out. */
  removed?: readonly string[]
  /** What a limit would have refused it for, were its plan no dry run. */
  'dry-run'?: string
  /** False where the fleet says `receipts: false`. */
  shown: boolean
  /** What is left of the tenant's limits per minute: told whether receipts are shown or not. */
  allowances?: Allowances
}

/** A new request's, with the id it is known by from here to vLLM's own log. */
export const newReceipt = (shown: boolean): Receipt => ({
  requestId: `req_${crypto.randomUUID().replaceAll('-', '')}`,
  shown,
})

const FIELDS = [
  'model',
  'arm',
  'pool',
  'instance',
  'reason',
  'attempts',
  'fleet',
  'removed',
  'dry-run',
] as const

/** Headers that a browser's script may read. */
export const RECEIPT_HEADERS = ['x-request-id', ...FIELDS.map((field) => `x-penstock-${field}`)]

export function receiptHeaders(receipt: Receipt): [name: string, value: string][] {
  const headers: [string, string][] = [['x-request-id', receipt.requestId]]
  if (!receipt.shown) return headers
  for (const field of FIELDS) {
    const value = receipt[field]
    const text = value === undefined ? '' : plain(value)
    if (text !== '') headers.push([`x-penstock-${field}`, text])
  }
  return headers
}

/**
 * The receipt as a comment at the end of a stream whose headers had to go out before it was known who
 * would answer; '' where receipts are off. One newline, as for every comment of ours (L24).
 */
export function receiptComment(receipt: Receipt): string {
  if (!receipt.shown) return ''
  const [, ...fields] = receiptHeaders(receipt)
  return `: receipt ${fields.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(' ')}\n`
}

/** As headers may say it: what a tenant named may be anything. */
function plain(value: string | number | readonly string[]): string {
  const text = typeof value === 'object' ? value.join(', ') : String(value)
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 1_000)
}
