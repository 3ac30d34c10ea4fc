import type { HealthConfig } from '../fleet/snapshot.ts'
import type { InstanceState } from '../pool/contract.ts'

/** What one look at an instance said. */
export type Reading =
  | { readonly kind: 'well' }
  | { readonly kind: 'unwell'; readonly reason: string }
  /** It answers, but serves another model than the pool's. */
  | { readonly kind: 'mismatch'; readonly reason: string }
  /** Nobody got through to it: says nothing of the instance itself (L14). */
  | { readonly kind: 'unreached'; readonly reason: string }
  /** It has work and nothing moves: its engine may be frozen (L07). */
  | { readonly kind: 'still'; readonly reason: string }
  /** It stood still and did not answer a small request either. */
  | { readonly kind: 'frozen'; readonly reason: string }

/** What readings make of an instance; ejecting is a breaker's business, draining the fleet's. */
export type HealthState = Exclude<InstanceState, 'draining' | 'ejected'>

/** Health of one instance: a state, and the run of equal readings that may change it. */
export interface Health {
  readonly state: HealthState
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

/** Only one that has been ready may skip the entrance check (the model's name and a little work). */
export const needsEntrance = ({ state }: Health): boolean =>
  state !== 'ready' && state !== 'suspect'

/**
 * The next health after a reading. Hysteresis both ways: a ready instance survives
 * `downAfter - 1` bad readings, a down one must be well `upAfter` times. One that has never been
 * ready needs a single good reading, since the entrance check has just proven it. A frozen engine is
 * out at once: it had its chance.
 *
 * @param now Unix milliseconds
 */
export function next(health: Health, reading: Reading, config: HealthConfig, now: number): Health {
  const become = (state: HealthState, reason: string): Health =>
    state === health.state ? { ...health, reason, run: 0 } : { state, reason, since: now, run: 0 }

  switch (reading.kind) {
    case 'mismatch':
      return become('mismatch', reading.reason)
    case 'frozen':
      return become('down', reading.reason)
    case 'unreached':
      return health.state === 'starting' ? { ...health, reason: reading.reason } : health
    case 'still':
      return health.state === 'ready' ? become('suspect', reading.reason) : health
    case 'well': {
      if (health.state !== 'down') return become('ready', 'healthy')
      const run = health.run + 1
      return run >= config.upAfter ? become('ready', 'healthy') : { ...health, run }
    }
    case 'unwell': {
      if (health.state === 'down') return { ...health, reason: reading.reason, run: 0 }
      const run = health.run + 1
      if (run >= config.downAfter) return become('down', reading.reason)
      // Still what it was; a ready one keeps saying so, one that starts says what it waits for.
      const keeps = health.state === 'ready' || health.state === 'suspect'
      return { ...health, run, reason: keeps ? health.reason : reading.reason }
    }
  }
}
