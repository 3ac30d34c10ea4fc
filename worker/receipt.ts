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
  /** False where the fleet says `receipts: false`. */
  shown: boolean
}

const FIELDS = ['model', 'arm', 'pool', 'instance', 'reason', 'attempts', 'fleet'] as const

/** Headers that a browser's script may read. */
export const RECEIPT_HEADERS = ['x-request-id', ...FIELDS.map((field) => `x-penstock-${field}`)]

export function receiptHeaders(receipt: Receipt): [name: string, value: string][] {
  const headers: [string, string][] = [['x-request-id', receipt.requestId]]
  if (!receipt.shown) return headers
  for (const field of FIELDS) {
    const value = receipt[field]
    if (value !== undefined) headers.push([`x-penstock-${field}`, String(value)])
  }
  return headers
}
