import { Refusal } from '../refusal.ts'
import { SMALL_BYTES, type Room } from './held-bodies.ts'

/** A large body that has not come whole by then is waited for no longer: one megabit a second brings 35 MB. */
const MOST_MS = 5 * 60_000

export interface Intake {
  /** What the body says of its length, in bytes; 0 where it says nothing. */
  readonly declared: number
  readonly room: Room
  /** The room that so many bytes of it take. */
  readonly roomFor: (bytes: number) => number
  /**
   * Whether its sender may ask for anything.
   * @throws Refusal
   */
  readonly check: () => Promise<unknown>
  /** Calls `act` after so many milliseconds, unless it is called off. */
  readonly after: (ms: number, act: () => void) => () => void
}

/**
 * Reads a body. A large one takes room from others for as long as it comes: so whoever sends it is asked
 * about while it does, and has not for ever. One that is small takes none before it is whole.
 *
 * @param read is given what to tell of the bytes that have come so far
 * @throws Refusal `router_unavailable` where there is no room, `request_timeout`; of `check` and `read`
 */
export async function takeIn<T>(
  read: (onBytes: (bytes: number) => void) => Promise<T>,
  { declared, room, roomFor, check, after }: Intake,
): Promise<T> {
  const { promise: refused, reject } = Promise.withResolvers<never>()
  let isLarge = false
  let callOff = (): void => {}
  const onBytes = (bytes: number): void => {
    if (bytes <= SMALL_BYTES) return
    room.grow(roomFor(bytes))
    if (isLarge) return
    isLarge = true
    callOff = after(MOST_MS, () => reject(tooSlow()))
    check().catch(reject)
  }
  try {
    onBytes(declared)
    return await Promise.race([read(onBytes), refused])
  } finally {
    callOff()
  }
}

const tooSlow = (): Refusal =>
  new Refusal('request_timeout', 'The body did not come within five minutes.')
