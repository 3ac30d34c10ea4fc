import type { Ctx } from '../entrance.ts'
import { callOf, tooLarge } from '../ingress/call.ts'
import { ENDPOINTS } from '../ingress/endpoints.ts'
import type { Json } from '../json.ts'
import { newReceipt, receiptHeaders } from '../receipt.ts'
import { Refusal } from '../refusal.ts'
import { largestBodies } from '../routing/resolve.ts'
import { answer } from '../serve.ts'
import { after } from '../timers.ts'
import { ChatSession, type Reply } from './chat-session.ts'
import { greet } from './greet.ts'
import { upgrade } from './handshake.ts'

/** What a frame may have beside its body: `{"id": …, "body": …}`. */
const ENVELOPE_BYTES = 1024

const LIMITS = {
  running: 32,
  // A socket's life is one invocation, which may make 10,000 subrequests: nine for a message that takes longer
  // than a second (admit, acquire, forward, release, settle, and two watches of two calls each).
  messages: 1_000,
  unansweredBytes: 32 * 1024 * 1024,
  idleMs: 5 * 60_000,
}

const PATH = '/v1/chat/completions'

/**
 * Chat completions over a WebSocket. Each message is a request of its own: its id, its receipt, its
 * admission, its abort signal.
 * @throws Refusal before the upgrade
 */
export async function chatSocket(c: Ctx): Promise<Response> {
  const endpoint = ENDPOINTS.find(({ path }) => path === PATH)
  if (!endpoint) throw new TypeError(`no endpoint ${PATH}`)
  const { snapshot } = await greet(c)
  const { headers } = c.req.raw
  const { wire, response } = upgrade(headers)

  const ask = (body: Json, bytes: number, signal: AbortSignal): Reply => {
    const receipt = newReceipt(snapshot.receipts)
    const asking = {
      endpoint,
      headers,
      signal,
      receipt,
      read: async (latest: typeof snapshot) => {
        const { json } = largestBodies(latest)
        if (bytes > json + ENVELOPE_BYTES) throw tooLarge(json)
        return callOf(body, Math.max(0, bytes - ENVELOPE_BYTES))
      },
    }
    const response = answer(c, asking)
    response.catch((error: unknown) => {
      const { code, cause } = Refusal.from(error)
      if (cause === undefined || signal.aborted) return
      console.error(`${receipt.requestId} ${code}:`, cause)
    })
    return {
      response,
      receipt: () => Object.fromEntries(receiptHeaders(receipt)),
    }
  }
  const frameBytes = largestBodies(snapshot).json + ENVELOPE_BYTES
  new ChatSession({ wire, ask, after, limits: { ...LIMITS, frameBytes } }).start()
  return response
}
