import { parseObject } from '../json.ts'
import type { Closing } from './closing.ts'
import { errorEvent, modelOf } from './realtime-names.ts'
import { sizeOf } from './unanswered.ts'
import type { Frame, Wire } from './wire.ts'

export interface FirstUpdateOptions {
  /** Calls `act` after a while, unless it is called off. */
  readonly after: (ms: number, act: () => void) => () => void
  /** How long a client may take to say which model it wants, in milliseconds. */
  readonly waitMs: number
  /** Bytes that may come before it is connected. */
  readonly holdBytes: number
  /** The session's id in the greeting. */
  readonly session: string
  /** Unix seconds. */
  readonly created: number
}

/** A client that has named its model and waits to be connected. */
export interface Named {
  readonly model: string
  /** What it has said so far, in order. Ask when there is somewhere to send it. */
  readonly held: () => readonly Frame[]
}

/**
 * Waits for the client's first `session.update`, which names the model where the URL does not. vLLM's
 * clients wait for `session.created` before they say anything, so that is said here; upstream's own
 * is to be left out later.
 *
 * @param leave aborted when the client is gone, also after it has named its model
 * @returns null when it never did: the socket is closed then
 */
export function firstUpdate(
  wire: Wire,
  leave: AbortController,
  { after, waitMs, holdBytes, session, created }: FirstUpdateOptions,
): Promise<Named | null> {
  const held: Frame[] = []
  let size = 0
  return new Promise((resolve) => {
    const end = (closing: Closing | null): void => {
      stopWaiting()
      if (closing) wire.close(closing)
      leave.abort()
      resolve(null)
    }
    const stopWaiting = after(waitMs, () => {
      wire.send(errorEvent('missing_required_parameter', 'Name the model in a session.update.'))
      end({ code: 1008, reason: 'No session.update named a model in time.' })
    })
    wire.listen({
      frame(frame) {
        held.push(frame)
        size += sizeOf(frame)
        if (size > holdBytes) {
          return end({ code: 1009, reason: 'Too much was sent before a session.update.' })
        }
        const event = typeof frame === 'string' ? parseObject(frame) : null
        const model = event?.['type'] === 'session.update' ? modelOf(event) : null
        if (model === null) return
        stopWaiting()
        resolve({ model, held: () => held })
      },
      ended: () => end(null),
    })
    wire.send(JSON.stringify({ type: 'session.created', id: session, created }))
  })
}
