import { checkKey, entrance, type Ctx } from '../entrance.ts'
import { checkOrigin } from './handshake.ts'

/**
 * All that may refuse a socket before it is one, while an ordinary error can still be sent: the URL,
 * the page's origin, the key.
 * @throws Refusal
 */
export async function greet(c: Ctx): ReturnType<typeof entrance> {
  const entered = await entrance(c)
  checkOrigin(c.req.raw.headers, entered.snapshot.corsOrigins)
  await checkKey(c, entered.snapshot)
  return entered
}
