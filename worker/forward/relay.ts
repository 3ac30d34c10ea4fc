import type { Ending } from '../../durable-objects/pool/contract.ts'
import { errorBody } from '../refusal.ts'
import { joined } from './frames.ts'
import type { Opened } from './open.ts'
import { Tail, type LastWords, type Proof } from './tail.ts'
import type { Watchdog } from './watchdog.ts'

/** How a relayed stream ended, and what its last frames said. */
export interface Relayed {
  readonly ending: Ending
  readonly usage: LastWords['usage']
}

export interface RelayOptions {
  readonly opened: Opened
  /** Where the tenant reads. */
  readonly tenant: WritableStream<Uint8Array>
  /** True once the tenant has left. */
  readonly tenantLeft: () => boolean
  readonly abortUpstream: () => void
  readonly watchdog: Watchdog
  /** Called once, when the instance has nothing more to do: its slot is free, even if the tenant reads on. */
  readonly onUpstreamEnd: (relayed: Relayed) => void
}

/** Room for one look at what has gone by: enough for a second of most streams; a busy one gets more. */
const SMALL_BYTES = 4 * 1024
const LARGE_BYTES = 32 * 1024

/**
 * Carries a stream to the tenant, once its first content is in hand.
 *
 * No byte changes, so none enters JavaScript on its way: the runtime pipes one branch of a tee to
 * the tenant by itself, and the other branch is emptied when the watchdog looks, about once a
 * second, to see how the stream is doing and, at last, how it ended. What is dear is entering the
 * isolate for every chunk; `npm run bench` says what this costs beside a bare pass-through.
 *
 * The order of the branches matters: only the second one of workerd's tee buffers exact copies.
 *
 * @returns when the tenant's side is over as well; never rejects, because every ending is an answer
 */
export async function relay(options: RelayOptions): Promise<void> {
  const { opened, tenant, tenantLeft, abortUpstream, watchdog, onUpstreamEnd } = options
  const tail = new Tail()
  const [piped, watched] = opened.rest.tee()
  const drain = drainInto(tail, watched, watchdog)
  watchdog.alongside(() => void drain.some())

  const piping = pipe(opened.held, piped, tenant, tail)
  // Whichever is first: usually the pipe; a tenant who reads slowly is behind what has been drained.
  const broken = (await Promise.race([piping, drain.end])) === 'broken'
  if (broken) abortUpstream() // before the drain below, which would else read a running stream to its end
  await drain.all()

  const { proof, usage } = tail.read()
  const ending = endingOf(proof, tenantLeft(), watchdog)
  onUpstreamEnd({ ending, usage })

  await piping
  if (!tenantLeft()) await finish(tenant, ending, tail)
}

function endingOf(proof: Proof, tenantLeft: boolean, { expired }: Watchdog): Ending {
  // What the instance has proven counts, also for a tenant who left with the last word in his hands.
  if (proof === 'whole') return 'done'
  if (proof === 'failed') return 'upstream-failed'
  if (tenantLeft) return 'client-left'
  return expired === null ? 'truncated' : 'timed-out'
}

/** Sends what was read by hand, in one piece, and lets the runtime carry the rest. Never rejects. */
async function pipe(
  held: readonly Uint8Array[],
  rest: ReadableStream<Uint8Array>,
  tenant: WritableStream<Uint8Array>,
  tail: Tail,
): Promise<'over' | 'broken'> {
  const bytes = joined(held)
  tail.push(bytes)
  const writer = tenant.getWriter()
  try {
    await writer.write(bytes)
    writer.releaseLock()
    await rest.pipeTo(tenant, { preventClose: true, preventAbort: true, preventCancel: true })
    return 'over'
  } catch {
    // Upstream broke, the watchdog ended it, or the tenant left: the tail and two flags tell which.
    writer.releaseLock()
    return 'broken'
  }
}

/**
 * Ends the tenant's stream so that a cut cannot be taken for the end: an error frame, which OpenAI's
 * SDKs throw, where the last frame is whole; after half a frame nothing can be said any more (it
 * would garble what came before), and the connection is broken instead.
 */
async function finish(
  tenant: WritableStream<Uint8Array>,
  ending: Ending,
  tail: Tail,
): Promise<void> {
  try {
    const writer = tenant.getWriter()
    if (ending === 'done' || ending === 'upstream-failed') return await writer.close()
    if (!tail.atBoundary) return await writer.abort(new Error('cut inside a frame'))
    await writer.write(errorFrame(ending))
    await writer.close()
  } catch {
    // The tenant left in the very last moment: there is nobody to tell.
  }
}

function errorFrame(ending: Ending): Uint8Array {
  const error =
    ending === 'timed-out'
      ? {
          code: 'upstream_timeout',
          message: 'The model server stopped sending. The answer above is incomplete.',
        }
      : {
          code: 'upstream_failed',
          message: 'The connection to the model server was lost. The answer above is incomplete.',
        }
  const body = errorBody({ ...error, type: 'server_error', param: null })
  return new TextEncoder().encode(`data: ${JSON.stringify(body)}\n\n`)
}

/** Takes what a branch has buffered, when told to, and shows it to the tail. */
function drainInto(tail: Tail, branch: ReadableStream<Uint8Array>, watchdog: Watchdog) {
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
        if (value.byteLength > 0 && tail.push(value)) watchdog.heard()
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
