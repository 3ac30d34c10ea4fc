import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { mayKnow, withNews, type Ctx } from './entrance.ts'
import type { Applicant } from './ingress/admit.ts'
import type { Asked } from './routing/asked.ts'
import { asksForPlan, resolveAll, type Routes } from './routing/resolve.ts'
import type { SnapshotSource } from './routing/snapshots.ts'

/**
 * Where a request goes. Only where a rule looks at the tenant's plan, and this isolate does not know it,
 * his object is asked first: one more round trip.
 * @throws Refusal as `resolve`, and of the tenant's object
 */
export const routesFor = (
  c: Ctx,
  source: SnapshotSource,
  snapshot: Snapshot,
  { applicant, asked }: { readonly applicant: Applicant; readonly asked: Asked },
): Promise<Routes> =>
  withNews(source, snapshot, async (latest) => {
    if (asked.plan() === undefined && asksForPlan(latest, asked)) await mayKnow(c, applicant)
    return resolveAll(latest, asked)
  })

/** A tenant's plan, as far as this isolate has been told. */
export const planOf =
  ({ standings, identity }: Applicant): Asked['plan'] =>
  () =>
    standings.of(identity)?.plan
