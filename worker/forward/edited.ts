import { readOut } from './open.ts'
import type { Carriage, Carried } from './relay.ts'

const ENCODER = new TextEncoder()

/** For one read; an engine's chunk is a frame or a few. */
const ROOM_BYTES = 4 * 1024

/**
 * Carries a stream whose frames must change: a name, a field under its old name as well, a frame that
 * nobody asked for. Only whole frames go out, each chunk's in one write, so that an error frame
 * always has its place.
 */
export function carryEdited({ opened, edit, ...carriage }: Carriage): Carried {
  const { witness, watchdog, tenant, abortUpstream } = carriage
  const outlet = new Outlet(tenant)
  let withheld: string | null = null

  /** @returns false once the end was seen, or the engine has said that it failed: what follows is no answer any more */
  const pass = (frames: readonly string[], begin = ''): boolean => {
    let out = begin
    let heard = false
    for (const frame of frames) {
      heard = witness.see(frame) || heard
      if (witness.proof === 'failed' || witness.proof === 'aborted') {
        withheld = frame
        break
      }
      out += edit(frame)
    }
    if (heard) watchdog.heard()
    outlet.write(out)
    return withheld === null && witness.proof !== 'whole'
  }

  const carry = async (): Promise<void> => {
    const reader = opened.rest.getReader({ mode: 'byob' })
    let buffer = new ArrayBuffer(ROOM_BYTES) // one for all reads: a new one each time is dear
    try {
      let going = pass(opened.ahead, opened.held.map(edit).join(''))
      while (going) {
        const { value, done } = await reader.read(new Uint8Array(buffer))
        if (done) return
        going = pass(opened.splitter.push(value))
        buffer = value.buffer
        if (outlet.broken) abortUpstream()
      }
      reader.releaseLock()
      await readOut(opened.rest.getReader())
    } catch {
      // Upstream broke, the watchdog ended it, or the tenant left: the witness and two flags tell which.
    }
  }
  const upstreamEnd = carry()
  return {
    upstreamEnd,
    handedOver: upstreamEnd.then(() => outlet.close()),
    atBoundary: () => true,
    withheld: () => withheld,
  }
}

/**
 * Writes in order without waiting for the reader: an instance must not be kept busy by a slow one.
 * What he has not read yet waits here, as it does behind the tee of a native pipe.
 */
class Outlet {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>
  #last: Promise<unknown> = Promise.resolve()
  broken = false
  readonly #onBroken = (): void => {
    this.broken = true
  }

  constructor(tenant: WritableStream<Uint8Array>) {
    this.#writer = tenant.getWriter()
  }

  write(text: string): void {
    if (text === '' || this.broken) return
    this.#last = this.#writer.write(ENCODER.encode(text)).catch(this.#onBroken)
  }

  /** Leaves the stream to the next writer once all is written, or the reader has gone. */
  async close(): Promise<void> {
    await this.#last
    this.#writer.releaseLock()
  }
}
