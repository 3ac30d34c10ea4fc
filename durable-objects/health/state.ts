import type { HealthConfig } from '../fleet/snapshot.ts'
import type { InstanceState } from '../pool/contract.ts'

/** What one look at an instance said. */
export type Reading =
  | { readonly kind: 'well' }
  | { readonly kind: 'unwell'; readonly reason: string }
  /** It answers, but serves another model than the pool's. */
  | { readonly kind: 'mismatch'; readonly reason: string }

/** Health of one instance: a state, and the run of equal readings that may change it. */
export interface Health {
  readonly state: Exclude<InstanceState, 'draining'>
  readonly reason: string
  /** Unix milliseconds since when. */
  readonly since: number
  /** Readings in a row that speak for another state. */
  readonly run: number
}

export const starting = (now: number): Health => ({
  state: 'starting',
  reason: 'not looked at yet',
  since: now,
  run: 0,
})

/** Only a ready instance may skip the entrance check (the model's name and a little work). */
export const needsEntrance = (health: Health): boolean => health.state !== 'ready'

/**
 * The next health after a reading. Hysteresis both ways: a ready instance survives
 * `downAfter - 1` bad readings, a down one must be well `upAfter` times. One that has never been
 * ready needs a single good reading, since the entrance check has just proven it.
 *
 * @param now Unix milliseconds
 */
export function next(health: Health, reading: Reading, config: HealthConfig, now: number): Health {
  const become = (state: Health['state'], reason: string): Health =>
    state === health.state ? { ...health, reason, run: 0 } : { state, reason, since: now, run: 0 }

  if (reading.kind === 'mismatch') return become('mismatch', reading.reason)

  if (reading.kind === 'well') {
    if (health.state !== 'down') return become('ready', 'healthy')
    const run = health.run + 1
    return run >= config.upAfter ? become('ready', 'healthy') : { ...health, run }
  }

  if (health.state === 'down') return { ...health, reason: reading.reason, run: 0 }
  const run = health.run + 1
  if (run >= config.downAfter) return become('down', reading.reason)
  // Still what it was; a ready one keeps saying so, one that starts says what it waits for.
  return { ...health, run, reason: health.state === 'ready' ? health.reason : reading.reason }
}
