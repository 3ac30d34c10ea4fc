import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../env.ts'
import { receiptHeaders, type Receipt } from '../receipt.ts'

/** Gives each request an id and writes the receipt on its answer, whatever the answer is. */
export const stamp = createMiddleware<AppEnv>(async (c, next) => {
  const kept: Receipt = { requestId: `req_${crypto.randomUUID().replaceAll('-', '')}`, shown: true }
  c.set('receipt', kept)
  await next()
  for (const [name, value] of receiptHeaders(kept)) c.res.headers.set(name, value)
})
