import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../env.ts'
import { newReceipt, receiptHeaders } from '../receipt.ts'
import { allowanceHeaders } from './allowance-headers.ts'

/** Gives each request an id and writes the receipt on its answer, whatever the answer is. */
export const stamp = createMiddleware<AppEnv>(async (c, next) => {
  const kept = newReceipt(true)
  c.set('receipt', kept)
  await next()
  for (const [name, value] of receiptHeaders(kept)) c.res.headers.set(name, value)
  if (kept.allowances) {
    for (const [name, value] of allowanceHeaders(kept.allowances)) c.res.headers.set(name, value)
  }
  // Where Anthropic's SDK looks for it.
  if (c.req.path.startsWith('/v1/messages')) c.res.headers.set('request-id', kept.requestId)
})
