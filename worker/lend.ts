import type { SecretOf } from '../durable-objects/fleet/target.ts'
import type { Ending } from '../durable-objects/pool/contract.ts'
import { entrance, identify, sourceOf, withNews, type Ctx } from './entrance.ts'
import { forwardDeps, reservationFor } from './forward-deps.ts'
import type { Reservation } from './forward/order.ts'
import type { Slot } from './forward/slot.ts'
import { fleetInFlux, STALE_TRIES, StaleRoute, takeSlot } from './forward/slots.ts'
import { askerOf, workOf } from './ingress/work.ts'
import type { Receipt } from './receipt.ts'
import { Refusal } from './refusal.ts'
import { cohortOf } from './routing/cohort.ts'
import { renewed } from './routing/renew.ts'
import { resolveAll, type Route } from './routing/resolve.ts'

/** A slot of one instance, for what is no HTTP exchange. */
export interface Lent {
  readonly route: Route
  readonly slot: Slot
  readonly reservation: Reservation
  readonly secretOf: SecretOf
  /** Gives the slot back. Safe to call twice. */
  readonly settle: (ending: Ending) => void
}

export interface LendOptions {
  /** What the tenant calls the model; null where the URL says it. */
  readonly model: string | null
  readonly user: string | null
  readonly receipt: Receipt
  /** Instances that have failed already. */
  readonly avoid?: readonly string[]
}

/**
 * Lends one ready instance of a model, without a fallback.
 * @throws Refusal as an HTTP request would get it
 */
export async function lend(
  c: Ctx,
  { model, user, receipt, avoid = [] }: LendOptions,
): Promise<Lent> {
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { snapshot, prefix } = await entrance(c, source)
  const identity = await identify(c, snapshot)
  const { tenant } = identity
  const deps = forwardDeps(c)
  const reservation = reservationFor(c, { snapshot, identity, receipt }, deps)
  const asked = { prefix, model, cohort: cohortOf(tenant, user) }
  const failed = avoid.map((instance) => ({ ...NOT_AGAIN, instance }))
  const { raw } = c.req
  const unknown = { promptTokens: 0, prefix: new Uint8Array() }
  const work = workOf({ user }, askerOf(raw, tenant, raw.headers), unknown)
  const asking = { reservation, receipt, work: () => work, tokens: 'none' } as const
  try {
    let [route] = await withNews(source, snapshot, (at) => resolveAll(at, asked))
    for (let tries = 1; ; tries++) {
      const deadline = startedAt + route.pool.timeouts.totalMs
      try {
        const { signal } = raw
        const claimant = { ...asking, route, deadline, signal }
        const slot = await takeSlot(claimant, deps, failed)
        if (slot instanceof Refusal) throw slot
        if (slot === null)
          throw new Refusal('upstream_failed', 'The model server failed to answer.')
        receipt.instance = slot.target.instance
        receipt.reason = slot.reason
        const settle = (ending: Ending): void => {
          const durationMs = Date.now() - startedAt
          deps.defer(slot.release({ ...UNCOUNTED, ending, durationMs, ttftMs: null }))
          reservation.settle({ ...UNCOUNTED, ending, model: route.model.name })
        }
        return { route, slot, reservation, secretOf: deps.secretOf, settle }
      } catch (error) {
        if (!(error instanceof StaleRoute)) throw error
        if (tries > STALE_TRIES) throw fleetInFlux()
        ;[route] = await renewed(source, asked, error.version)
      }
    }
  } catch (error) {
    reservation.settle({ ...UNCOUNTED, ending: 'refused', model: '' })
    throw error
  }
}

/** Nobody says how many tokens went over a socket. */
const UNCOUNTED = {
  promptTokens: null,
  completionTokens: null,
  cachedTokens: null,
  counted: null,
} as const

const NOT_AGAIN = {
  kind: 'fault',
  reason: 'failed before',
  message: null,
  ending: 'upstream-failed',
} as const
