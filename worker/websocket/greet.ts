import { tenantObject } from '../env.ts'
import { entrance, identify, type Ctx } from '../entrance.ts'
import { admit } from '../ingress/admit.ts'
import { checkOrigin } from './handshake.ts'

/**
 * All that may refuse a socket before it is one, while an ordinary error can still be sent: the URL,
 * the page's origin, the key.
 * @throws Refusal
 */
export async function greet(c: Ctx): ReturnType<typeof entrance> {
  const entered = await entrance(c)
  checkOrigin(c.req.raw.headers, entered.snapshot.corsOrigins)
  const identity = await identify(c)
  await admit(() => tenantObject(c.env, identity.tenant), identity)
  return entered
}

/** Calls `act` after a while, unless it is called off. */
export function after(ms: number, act: () => void): () => void {
  const timer = setTimeout(act, ms)
  return () => clearTimeout(timer)
}
