import type { Granted, NotGranted, Queued } from '../../durable-objects/pool/contract.ts'
import { drop } from './keeper.ts'
import type { Claimant, ForwardDeps } from './order.ts'

/** For one who has waited in vain: his SDK tries again. */
export const IN_VAIN: NotGranted = { kind: 'busy', retryAfterS: 1 }

/** Most wait for less, and are over before it is worth a call to hear whether they still may; in milliseconds. */
const WATCHED_AFTER_MS = 1_000

/**
 * Waits in a pool's queue. Who leaves, may not ask at all or any more, or has no time left gives his place
 * up at once: the call alone would keep it, and an object that says nothing would keep him.
 *
 * @param reserving rejects when the request may not run there
 * @returns null when the object was reset
 */
export async function turnOf(
  { ticket }: Queued,
  { signal, deadline, reservation }: Pick<Claimant, 'signal' | 'deadline' | 'reservation'>,
  reserving: Promise<void>,
  { now, after, defer }: Pick<ForwardDeps, 'now' | 'after' | 'defer'>,
): Promise<Granted | NotGranted | null> {
  const { promise: left, resolve } = Promise.withResolvers<'left'>()
  let waits = true
  const leave = (): void => {
    if (!waits) return
    waits = false
    // The request ends with this, and its context would take the call along.
    defer(Promise.resolve(ticket.leave()).catch(() => undefined))
    resolve('left')
  }
  signal.addEventListener('abort', leave)
  if (signal.aborted) leave()
  reserving.catch(leave)
  const watch = (): void => {
    if (waits) reservation.watch(leave)
  }
  const callOffs = [
    after(deadline - now(), leave),
    after(WATCHED_AFTER_MS, () => void reserving.then(watch, () => undefined)),
  ]
  const waiting = ticket.wait()
  try {
    const answer = await Promise.race([waiting, left])
    if (answer !== 'left') return answer.kind === 'queued' ? IN_VAIN : answer
    // A grant may be on its way to him all the same.
    defer(waiting.then(drop, () => undefined))
    return IN_VAIN
  } catch {
    return null
  } finally {
    waits = false
    for (const callOff of callOffs) callOff()
    signal.removeEventListener('abort', leave)
    drop(ticket)
  }
}
