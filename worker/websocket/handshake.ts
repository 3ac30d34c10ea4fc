import { KEY_PROTOCOL } from '../ingress/authenticate.ts'
import { Refusal } from '../refusal.ts'
import { wireOf, type Wire } from './wire.ts'

/** Whether a request asks to go on as a WebSocket. */
export const isUpgrade = (headers: Headers): boolean =>
  headers.get('upgrade')?.toLowerCase() === 'websocket'

/** What OpenAI's clients offer first, and what both of our endpoints speak. */
const PREFERRED = 'realtime'

/**
 * The subprotocol to answer with: `realtime` where it was offered, else the first one that is not a
 * key. A key is never said back, so that it stands in no response and no log of one.
 *
 * A client that offers the key alone gets no subprotocol. RFC 6455 allows that; browsers (WHATWG
 * WebSockets, "establish a WebSocket connection") and Node's `ws` close a connection on which none of
 * those they offered is chosen. They must offer another one beside the key.
 *
 * @returns null when none is to be named
 */
export function selectProtocol(headers: Headers): string | null {
  const offered = (headers.get('sec-websocket-protocol') ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && !name.startsWith(KEY_PROTOCOL))
  return offered.includes(PREFERRED) ? PREFERRED : (offered[0] ?? null)
}

/**
 * Browsers do not apply CORS to WebSockets: any page may open one, and only the server can say no.
 * What is no browser sends no Origin.
 * @param origins the fleet's `cors.origins`
 * @throws Refusal `origin_not_allowed`
 */
export function checkOrigin(headers: Headers, origins: readonly string[]): void {
  const origin = headers.get('origin')
  if (origin === null || origins.includes('*') || origins.includes(origin)) return
  throw new Refusal(
    'origin_not_allowed',
    'Pages of this origin may not open WebSockets here. The fleet lists those that may in cors.origins.',
  )
}

/** A new WebSocket: our end of it, and the response that gives the client the other one. */
export function upgrade(headers: Headers): { readonly wire: Wire; readonly response: Response } {
  const { 0: webSocket, 1: ours } = new WebSocketPair()
  const protocol = selectProtocol(headers)
  const response = new Response(null, {
    status: 101,
    webSocket,
    headers: protocol === null ? {} : { 'sec-websocket-protocol': protocol },
  })
  return { wire: wireOf(ours), response }
}
