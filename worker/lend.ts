import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import type { SecretOf } from '../durable-objects/fleet/target.ts'
import type { Ending } from '../durable-objects/pool/contract.ts'
import { applicantOf, sourceOf, type Ctx } from './entrance.ts'
import { forwardDeps } from './forward-deps.ts'
import type { Reservation } from './forward/order.ts'
import type { Slot } from './forward/slot.ts'
import { UNCOUNTED } from './forward/usage.ts'
import { fleetInFlux, STALE_TRIES, StaleRoute, takeSlot } from './forward/slots.ts'
import type { Identity } from './ingress/authenticate.ts'
import { askerOf, workOf } from './ingress/work.ts'
import type { Receipt } from './receipt.ts'
import { Refusal } from './refusal.ts'
import { askedOf } from './routing/asked.ts'
import type { Destination } from './routing/names.ts'
import { renewed } from './routing/renew.ts'
import type { Route } from './routing/resolve.ts'
import { planOf, routesFor } from './routes-for.ts'

/** A slot of one instance, for what is no HTTP exchange. */
export interface Lent {
  readonly route: Route
  readonly slot: Slot
  readonly reservation: Reservation
  readonly secretOf: SecretOf
  /** Gives the slot back. Safe to call twice. */
  readonly release: (ending: Ending) => void
  /** The same, and says what the request came to. Safe to call twice. */
  readonly settle: (ending: Ending) => void
}

export interface LendOptions {
  /** What the tenant calls the model; null where the URL says it. */
  readonly model: string | null
  readonly receipt: Receipt
  /** The fleet as it was when the socket came, what its URL says, and whose it is. */
  readonly snapshot: Snapshot
  readonly destination: Destination
  readonly identity: Identity
  /** The request's part of its tenant's allowance, however many instances are tried for it. */
  readonly reservation: Reservation
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
  /** Instances that have failed already. */
  readonly avoid?: readonly string[]
}

/** Nothing was done for it: as if the tenant had not asked. */
export function undo(reservation: Reservation): void {
  reservation.settle({ ...UNCOUNTED, ending: 'refused', model: '' })
}

/**
 * Says what a request came to of which nobody counts the tokens. What a client did wrong once it was
 * served is no reason to take it for undone.
 */
export function settleUse(reservation: Reservation, ending: Ending, model: string): void {
  reservation.settle({ ...UNCOUNTED, ending: ending === 'refused' ? 'done' : ending, model })
}

/**
 * Lends one ready instance of a model, without a fallback.
 * @throws Refusal as an HTTP request would get it
 */
export async function lend(
  c: Ctx,
  { model, receipt, snapshot, destination, identity, reservation, signal, avoid = [] }: LendOptions,
): Promise<Lent> {
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { tenant, keyId } = identity
  const deps = forwardDeps(c)
  const applicant = applicantOf(c, snapshot, identity)
  const { headers } = c.req.raw
  const asked = askedOf(
    { body: {}, model, stream: true, user: null },
    { ...destination, tenant, keyId, plan: planOf(applicant), headers },
  )
  const failed = avoid.map((instance) => ({ ...NOT_AGAIN, instance }))
  const { raw } = c.req
  const unknown = { promptTokens: 0, outputTokens: null, prefix: new Uint8Array() }
  const work = ({ arm: { adapter = null } }: Route) =>
    workOf({}, askerOf(raw, tenant, headers), { ...unknown, adapter })
  const asking = { reservation, receipt, work, tokens: 'none' } as const
  let [route] = await routesFor(c, source, snapshot, { applicant, asked })
  for (let tries = 1; ; tries++) {
    const deadline = startedAt + route.pool.timeouts.totalMs
    try {
      const claimant = { ...asking, route, deadline, signal }
      const slot = await takeSlot(claimant, deps, failed)
      if (slot instanceof Refusal) throw slot
      if (slot === null) throw new Refusal('upstream_failed', 'The model server failed to answer.')
      receipt.instance = slot.target.instance
      receipt.reason = slot.reason
      const release = (ending: Ending): void => {
        const durationMs = Date.now() - startedAt
        deps.defer(slot.release({ ...UNCOUNTED, ending, durationMs, ttftMs: null }))
      }
      const { name } = route.model
      const settle = (ending: Ending): void => {
        release(ending)
        settleUse(reservation, ending, name)
      }
      return { route, slot, reservation, secretOf: deps.secretOf, release, settle }
    } catch (error) {
      if (!(error instanceof StaleRoute)) throw error
      if (tries > STALE_TRIES) throw fleetInFlux()
      ;[route] = await renewed(source, asked, error.version)
    }
  }
}

const NOT_AGAIN = {
  kind: 'fault',
  reason: 'failed before',
  message: null,
  ending: 'upstream-failed',
} as const
