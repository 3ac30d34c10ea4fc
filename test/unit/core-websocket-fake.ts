import type { Closing } from '../../worker/websocket/closing.ts'
import type { Ears, Frame, Wire } from '../../worker/websocket/wire.ts'

/** One end of a socket, with the other side in the test's hand. */
export function fakeWire() {
  let ears: Ears | null = null
  const sent: Frame[] = []
  const closed: Closing[] = []
  const wire: Wire = {
    listen: (listener) => {
      ears = listener
    },
    send: (frame) => {
      if (!ears) throw new TypeError('a socket takes nothing before somebody listens')
      if (closed.length === 0) sent.push(frame)
    },
    close: (closing) => {
      closed.push(closing)
    },
  }
  return {
    wire,
    closed,
    sent,
    /** What was sent so far, as JSON; forgotten then. */
    take: () =>
      sent.splice(0).map((frame) => JSON.parse(frame as string) as Record<string, unknown>),
    says: (frame: Frame | object) =>
      ears?.frame(
        typeof frame === 'string' || frame instanceof ArrayBuffer ? frame : JSON.stringify(frame),
      ),
    leaves: (code = 1006, reason = '') => ears?.ended({ code, reason }),
  }
}

/** Timers that ring when the test says so. */
export function fakeTimers() {
  const waiting = new Map<symbol, { readonly ms: number; readonly act: () => void }>()
  return {
    waiting,
    after: (ms: number, act: () => void) => {
      const timer = Symbol('timer')
      waiting.set(timer, { ms, act })
      return () => void waiting.delete(timer)
    },
    ring() {
      const due = [...waiting.values()]
      waiting.clear()
      for (const { act } of due) act()
    },
  }
}
