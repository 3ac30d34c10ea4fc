import { fitting, LOST, type Closing } from './closing.ts'

/** One WebSocket message: text, or bytes. */
export type Frame = string | ArrayBuffer

/** Who hears what comes over a wire. */
export interface Ears {
  readonly frame: (frame: Frame) => void
  /** The other side has closed, or is gone. Told once, and not when we closed ourselves. */
  readonly ended: (closing: Closing) => void
}

/** One end of a WebSocket: what is used of it, and no error that anybody would have to catch. */
export interface Wire {
  /** Begins to hear; called again, somebody else hears from then on. */
  readonly listen: (ears: Ears) => void
  /** To a socket that is over, nothing is sent. */
  readonly send: (frame: Frame) => void
  /** The code must be one that may be sent. */
  readonly close: (closing: Closing) => void
}

/** What is used of the runtime's WebSocket. */
export type Socket = Pick<
  WebSocket,
  'accept' | 'addEventListener' | 'send' | 'close' | 'binaryType'
>

/**
 * The runtime's WebSocket as a wire. It tells an end in several ways: `close` alone, `close` and then
 * `error` once the connection is down, and `error` alone where a message was too large for it.
 */
export function wireOf(socket: Socket): Wire {
  let ears: Ears | null = null
  let over = false
  const end = (closing: Closing): void => {
    if (over) return
    over = true
    ears?.ended(closing)
  }
  return {
    listen(listener) {
      const first = ears === null
      ears = listener
      if (!first) return
      socket.binaryType = 'arraybuffer'
      socket.addEventListener('message', ({ data }: { data: unknown }) => {
        if (!over) ears?.frame(data as Frame)
      })
      socket.addEventListener('close', ({ code, reason }) => end({ code, reason }))
      socket.addEventListener('error', () => end(LOST))
      socket.accept()
    },
    send(frame) {
      if (over) return
      try {
        socket.send(frame)
      } catch {
        // It is going down: its `close` or `error` is on the way.
      }
    },
    close({ code, reason }) {
      if (over) return
      over = true
      try {
        socket.close(code, fitting(reason))
      } catch {
        // It went down at this very moment.
      }
    },
  }
}
