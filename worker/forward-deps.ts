import { secretsOf } from '../durable-objects/fleet/target.ts'
import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import type { Bill } from '../durable-objects/tenant/contract.ts'
import { applicantOf, type Ctx } from './entrance.ts'
import { poolObject } from './env.ts'
import { TenantReservation } from './forward/tenant-reservation.ts'
import type { Identity } from './ingress/authenticate.ts'
import type { Receipt } from './receipt.ts'
import type { ForwardDeps } from './forward/order.ts'
import { Outages } from './forward/outages.ts'
import { PoolNews } from './forward/pool-news.ts'
import { Standby } from './forward/standby.ts'
import { HeldBodies } from './ingress/held-bodies.ts'
import { snapshots } from './routing/snapshots.ts'
import { after, sleep } from './timers.ts'

/** What copies for shadows may keep of bodies at once, in bytes. */
const MOST_COPIED_BYTES = 8 * 1024 ** 2

/** What one isolate knows and counts, whatever request it is. */
const isolate = {
  news: new PoolNews(),
  outages: new Outages(),
  standby: new Standby(),
  copies: new HeldBodies(MOST_COPIED_BYTES, 0),
  fleet: () => snapshots.latest,
}

/** What forwarding works with, in the Worker that answers this request. */
export function forwardDeps(c: Ctx): ForwardDeps {
  return {
    pool: ({ pool }) => poolObject(c.env, pool),
    ...isolate,
    fetch: (url, init) => fetch(url, init),
    secretOf: secretsOf(c.env),
    now: Date.now,
    random: Math.random,
    sleep,
    after,
    defer: (work) => c.executionCtx.waitUntil(work),
    log: (message, ...cause) => console.warn(message, ...cause),
  }
}

/** A request's part of its tenant's allowance. Whoever makes one sees to it that it is settled. */
export function reservationFor(
  c: Ctx,
  { snapshot, identity, receipt }: Reserving,
  { now, sleep, random, defer, log }: ForwardDeps,
): TenantReservation {
  const meter = (who: Identity, bill: Bill): void => c.env.USAGE?.writeDataPoint(pointOf(who, bill))
  const applicant = applicantOf(c, snapshot, identity)
  return new TenantReservation(applicant, receipt, { now, sleep, random, defer, log, meter })
}

interface Reserving {
  readonly snapshot: Snapshot
  readonly identity: Identity
  readonly receipt: Receipt
}

/** For Analytics Engine: what a dashboard may group by, and what it may add up. */
const pointOf = ({ tenant, keyId }: Identity, bill: Bill): AnalyticsEngineDataPoint => ({
  indexes: [tenant],
  blobs: [tenant, keyId, bill.model, bill.ending, bill.counted ?? ''],
  doubles: [1, bill.promptTokens ?? 0, bill.cachedTokens ?? 0, bill.completionTokens ?? 0],
})
