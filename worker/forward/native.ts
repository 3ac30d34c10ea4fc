import { joined, type FrameSplitter } from './frames.ts'
import type { Carriage, Carried } from './relay.ts'
import type { Watchdog } from './watchdog.ts'
import type { Witness } from './witness.ts'

/** Room for one look at what has gone by: enough for a second of most streams; a busy one gets more. */
const SMALL_BYTES = 4 * 1024
const LARGE_BYTES = 32 * 1024

const ENCODER = new TextEncoder()

/**
 * Carries a stream of which no byte changes, so none enters JavaScript on its way: the runtime pipes
 * one branch of a tee to the tenant by itself, and the other branch is emptied when the watchdog
 * looks, about once a second, to see how the stream is doing and, at last, how it ended. What is dear
 * is entering the isolate for every chunk; `npm run bench` says what this costs beside a bare
 * pass-through.
 *
 * The order of the branches matters: only the second one of workerd's tee buffers exact copies.
 */
export function carryNative(carriage: Carriage): Carried {
  const { opened, witness, watchdog, abortUpstream } = carriage
  opened.ahead.forEach((frame) => witness.see(frame))
  const begun = opened.splitter.rest // before the drain adds to it
  const [piped, watched] = opened.rest.tee()
  const drain = drainInto(witness, opened.splitter, watched, watchdog)
  watchdog.alongside(() => void drain.some())

  const piping = pipe(carriage, begun, piped)
  const upstreamEnd = async (): Promise<void> => {
    // Whichever is first: usually the pipe; a tenant who reads slowly is behind what has been drained.
    const broken = (await Promise.race([piping, drain.end])) === 'broken'
    if (broken) abortUpstream() // before the drain below, which would else read a running stream to its end
    await drain.all()
  }
  return {
    upstreamEnd: upstreamEnd(),
    handedOver: piping.then(() => undefined),
    atBoundary: () => opened.splitter.atBoundary,
    withheld: () => null,
  }
}

/** Sends what was read by hand, in one piece, and lets the runtime carry the rest. Never rejects. */
async function pipe(
  { tenant, opened, edit }: Carriage,
  begun: Uint8Array,
  rest: ReadableStream<Uint8Array>,
): Promise<'over' | 'broken'> {
  const writer = tenant.getWriter()
  try {
    const held = [...opened.held, ...opened.ahead].map(edit).join('')
    await writer.write(joined([ENCODER.encode(held), begun]))
    writer.releaseLock()
    await rest.pipeTo(tenant, { preventClose: true, preventAbort: true, preventCancel: true })
    return 'over'
  } catch {
    // Upstream broke, the watchdog ended it, or the tenant left: the witness and two flags tell which.
    writer.releaseLock()
    return 'broken'
  }
}

/** Takes what a branch has buffered, when told to, and shows it to the witness. */
function drainInto(
  witness: Witness,
  splitter: FrameSplitter,
  branch: ReadableStream<Uint8Array>,
  watchdog: Watchdog,
) {
  const reader = branch.getReader({ mode: 'byob' })
  const { promise: end, resolve: ends } = Promise.withResolvers<'drained'>()
  let buffer = new ArrayBuffer(SMALL_BYTES)
  let ended = false
  let busy: Promise<void> | null = null

  const readOnce = async (): Promise<void> => {
    try {
      for (let full = true; full && !ended;) {
        const { value, done } = await reader.read(new Uint8Array(buffer))
        ended = done
        if (!value) break
        if (witness.seeAll(splitter.take(value))) watchdog.heard()
        full = value.byteLength === value.buffer.byteLength
        buffer = full ? new ArrayBuffer(LARGE_BYTES) : value.buffer
      }
    } catch {
      ended = true // what broke it is seen on the other branch as well
    }
    busy = null
    if (ended) ends('drained')
  }
  /** A read that is still waiting is left waiting: asking for more would delay the tenant's branch. */
  const some = (): Promise<void> => (ended ? end.then(() => {}) : (busy ??= readOnce()))
  const all = async (): Promise<void> => {
    while (!ended) await some()
  }
  return { some, all, end }
}
