import type { Timeouts } from '../../durable-objects/fleet/snapshot.ts'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import { Watchdog } from '../forward/watchdog.ts'
import { carried, isAbrupt, type Closing } from './closing.ts'
import { fromClient, fromUpstream, wordsOf, type Names } from './realtime-names.ts'
import { sizeOf, Unanswered } from './unanswered.ts'
import type { Frame, Wire } from './wire.ts'

export interface BridgeOptions {
  readonly client: Wire
  readonly upstream: Wire
  readonly names: Names
  readonly limits: BridgeLimits
  readonly timeouts: Timeouts
  /** Unix milliseconds at which the socket is over, whatever happens on it. */
  readonly deadline: number
  readonly now: () => number
  /** Called about once a second while the bridge stands. */
  readonly watch: (onDismissed: () => void, onWithdrawn: (why: string) => void) => void
  /** Called once, at the end. */
  readonly settle: (ending: Ending) => void
  /** What the client has said before upstream was there. */
  readonly held: readonly Frame[]
  /** The client has had a `session.created`: upstream's is left out. */
  readonly greeted: boolean
}

export interface BridgeLimits {
  /** A client's frame, in bytes. */
  readonly frameBytes: number
  /** Bytes sent to a side that says nothing. */
  readonly unansweredBytes: number
}

/** A code of ours: the other side would be 1001 or 1011, which say nothing of time. */
const TIMED_OUT = 4408

/**
 * Carries frames both ways until either side ends, time is up, or a limit is passed; then ends the
 * other side and settles, once.
 */
export function bridge(options: BridgeOptions): void {
  const { client, upstream, names, limits, timeouts, deadline, now, watch, settle } = options
  const toUpstream = new Unanswered(limits.unansweredBytes)
  const toClient = new Unanswered(limits.unansweredBytes)
  let greeted = options.greeted
  let over = false

  const watchdog = new Watchdog(timeouts, deadline, {
    now,
    onExpiry() {
      const idle = watchdog.expired === 'idle'
      const reason = idle
        ? 'Nothing was said for too long.'
        : 'The longest time for a socket is over.'
      end('timed-out', { client: { code: TIMED_OUT, reason }, upstream: { code: 1001, reason } })
    },
  })
  const withdraw = (why: string): void => giveUp('client-left', { code: 1008, reason: why })
  watchdog.alongside(() => watch(() => watchdog.hurry(), withdraw))
  watchdog.heard() // connected is what a first byte is elsewhere: from here on silence counts

  function end(
    ending: Ending,
    closings: { readonly client?: Closing; readonly upstream?: Closing },
  ): void {
    if (over) return
    over = true
    watchdog.stop()
    if (closings.client) client.close(closings.client)
    if (closings.upstream) upstream.close(closings.upstream)
    settle(ending)
  }

  /** Ends both sides over something that one of them did. */
  const giveUp = (ending: Ending, closing: Closing): void =>
    end(ending, { client: closing, upstream: { code: 1001, reason: '' } })

  function hearClient(frame: Frame): void {
    if (over) return
    watchdog.heard()
    toClient.heard()
    if (typeof frame !== 'string') {
      return giveUp('refused', { code: 1003, reason: 'Send text frames, not binary.' })
    }
    if (sizeOf(frame) > limits.frameBytes) {
      const reason = `A frame may have at most ${limits.frameBytes} bytes.`
      return giveUp('refused', { code: 1009, reason })
    }
    const passed = fromClient(frame, names)
    if ('answer' in passed) return sendClient(passed.answer)
    if (toUpstream.sent(passed.upstream)) return upstream.send(passed.upstream)
    giveUp('upstream-failed', { code: 1011, reason: 'The model server takes no more.' })
  }

  function hearUpstream(frame: Frame): void {
    if (over) return
    watchdog.heard()
    toUpstream.heard()
    if (typeof frame !== 'string') return sendClient(frame)
    if (greeted && frame.includes('"session.created"')) {
      greeted = false
      return
    }
    sendClient(fromUpstream(frame, names))
  }

  function sendClient(frame: Frame): void {
    if (toClient.sent(frame)) return client.send(frame)
    giveUp('client-left', { code: 1008, reason: 'The client reads too slowly.' })
  }

  client.listen({
    frame: hearClient,
    ended(closing) {
      const ending = isAbrupt(closing) ? 'client-left' : 'done'
      end(ending, { upstream: carried(closing, { code: 1001, reason: 'The client is gone.' }) })
    },
  })
  upstream.listen({
    frame: hearUpstream,
    ended(closing) {
      const { code, reason } = carried(closing, BROKEN)
      const ending = hasFailed(closing) ? 'upstream-failed' : 'done'
      end(ending, { client: { code, reason: wordsOf(reason, names) } })
    },
  })
  for (const frame of options.held) hearClient(frame)
}

const BROKEN: Closing = { code: 1011, reason: 'The connection to the model server was lost.' }

/** Whether an upstream's close is a fault of its own: gone, going away, an error, restarting. */
function hasFailed(closing: Closing): boolean {
  return isAbrupt(closing) || FAULTS.has(closing.code)
}

const FAULTS: ReadonlySet<number> = new Set([1001, 1011, 1012, 1013, 1014])
