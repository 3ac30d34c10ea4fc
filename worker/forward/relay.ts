import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Dialect } from '../dialects/dialect.ts'
import type { Refusal } from '../refusal.ts'
import { editing, type Edit, type Presentation } from './edits.ts'
import { carryEdited } from './edited.ts'
import { carryNative } from './native.ts'
import type { Opened } from './open.ts'
import { cutShort, failureOf } from './verdict.ts'
import type { Naming } from './verdict.ts'
import type { Watchdog } from './watchdog.ts'
import type { Witness } from './witness.ts'

export interface RelayOptions {
  readonly opened: Opened
  readonly dialect: Dialect
  readonly presentation: Presentation
  readonly naming: Naming
  readonly witness: Witness
  /** Where the tenant reads. Nothing but whole frames and comments has been written to it. */
  readonly tenant: WritableStream<Uint8Array>
  /** True once the tenant has left. */
  readonly tenantLeft: () => boolean
  /** Why the tenant may not ask any more, once that is so. */
  readonly withdrawn: () => Refusal | null
  readonly abortUpstream: () => void
  readonly watchdog: Watchdog
  /** Called once, when the instance has nothing more to do: its slot is free, even if the tenant reads on. */
  readonly onUpstreamEnd: (ending: Ending) => void
  /** A comment line to end a whole stream with; '' for none. */
  readonly epilogue: () => string
}

/** What carries the frames after those that were held, natively or edited. */
export interface Carriage {
  /** The tenant's side, between two writers. */
  readonly tenant: WritableStream<Uint8Array>
  readonly opened: Opened
  /** For what was read by hand. */
  readonly edit: Edit
  readonly witness: Witness
  readonly watchdog: Watchdog
  readonly abortUpstream: () => void
}

export interface Carried {
  /** Resolves when the instance has nothing more to do. Never rejects. */
  readonly upstreamEnd: Promise<void>
  /** Resolves when all that came has been handed to the tenant, or cannot be. Never rejects. */
  readonly handedOver: Promise<void>
  /** Whether what the tenant has got so far ends with a whole frame. Asked when both are over. */
  readonly atBoundary: () => boolean
  /** The frame in which the engine said that it failed, where it was held back. */
  readonly withheld: () => string | null
}

const ENCODER = new TextEncoder()

/**
 * Carries a stream to the tenant, once its first content is in hand: by the runtime alone where
 * nothing of it must change (`native.ts`), frame by frame where something must (`edited.ts`). Either
 * way every frame is witnessed, and every ending says what it is.
 *
 * @returns when the tenant's side is over as well; never rejects, because every ending is an answer
 */
export async function relay(options: RelayOptions): Promise<void> {
  const { opened, dialect, presentation, witness, tenant, tenantLeft, watchdog } = options
  const { held, rest } = editing(dialect, presentation, opened.opening)
  const carriage: Carriage = {
    tenant,
    opened,
    edit: rest ?? held,
    witness,
    watchdog,
    abortUpstream: options.abortUpstream,
  }
  // An engine that has failed already is not passed on as it is, as long as that can be helped.
  const failing = opened.ahead.some((frame) => dialect.notable(frame))
  const carried = rest === null && !failing ? carryNative(carriage) : carryEdited(carriage)

  await carried.upstreamEnd
  const ending = endingOf(witness, tenantLeft() || options.withdrawn() !== null, watchdog)
  options.onUpstreamEnd(ending)

  await carried.handedOver
  if (!tenantLeft()) await finish(ending, carried, options)
}

function endingOf({ proof }: Witness, tenantLeft: boolean, { expired }: Watchdog): Ending {
  // What the instance has proven counts, also for a tenant who left with the last word in his hands.
  if (proof === 'whole') return 'done'
  if (proof === 'failed' || proof === 'aborted') return 'upstream-failed'
  if (tenantLeft) return 'client-left'
  return expired === null ? 'truncated' : 'timed-out'
}

/**
 * Ends the tenant's stream so that a cut cannot be taken for the end: an error frame, which the SDKs
 * throw, where the last frame is whole; after half a frame nothing can be said any more (it would
 * garble what came before), and the connection is broken instead.
 */
async function finish(
  ending: Ending,
  { atBoundary, withheld }: Carried,
  { tenant, dialect, witness, naming, epilogue, withdrawn }: RelayOptions,
): Promise<void> {
  const write = (text: string): Promise<void> => writer.write(ENCODER.encode(text))
  const writer = tenant.getWriter()
  try {
    if (ending === 'done') {
      const comment = epilogue()
      if (comment !== '') await write(comment)
      return await writer.close()
    }
    const frame = withheld()
    // The engine's own error frame has gone out as it came.
    if (witness.proof === 'failed' && frame === null) return await writer.close()
    // Nor can an abort be taken back: only a broken connection says that this was not the end.
    const unsaid = witness.proof === 'aborted' && frame === null
    if (unsaid || !atBoundary()) return await writer.abort(new Error('the answer is incomplete'))
    const why = withdrawn()
    const failure = why ? cutShort(why.body.error) : failureOf(ending, frame, naming)
    await write(dialect.errorFrame(failure) + epilogue())
    await writer.close()
  } catch {
    // The tenant left in the very last moment: there is nobody to tell.
  }
}
