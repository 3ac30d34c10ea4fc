import type { Context } from 'hono'
import { completeSnapshot } from '../durable-objects/fleet/complete.ts'
import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { fleetObject, type AppEnv } from './env.ts'
import { Keyring, type Identity } from './ingress/authenticate.ts'
import { locate } from './ingress/locate.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { modelAt } from './routing/resolve.ts'
import { snapshots, type SnapshotSource } from './routing/snapshots.ts'

export type Ctx = Context<AppEnv>

const keyring = new Keyring()

/** The first checks: there is a fleet, and the URL's prefix is '' or a model's path. */
export async function entrance(
  c: Ctx,
  source: SnapshotSource = sourceOf(c),
): Promise<{ snapshot: Snapshot; prefix: string }> {
  const { prefix } = locate(c.req.url)
  const snapshot = await withNews(source, await snapshots.current(source), (latest) => {
    if (prefix !== '' && !modelAt(latest, prefix)) throw notFound(c)
    return latest
  })
  c.get('receipt').shown = snapshot.receipts
  return { snapshot, prefix }
}

/** Uses a snapshot; where it lacks a name, a newer one, so that what was just applied works at once. */
export async function withNews<T>(
  source: SnapshotSource,
  snapshot: Snapshot,
  use: (snapshot: Snapshot) => T,
): Promise<T> {
  try {
    return use(snapshot)
  } catch (error) {
    const unknown = error instanceof Refusal && UNKNOWN_NAMES.has(error.code)
    const newer = unknown ? await snapshots.news(source, snapshot.version) : null
    if (!newer) throw error
    return use(newer)
  }
}

const UNKNOWN_NAMES: ReadonlySet<RefusalCode> = new Set(['not_found', 'model_not_found'])

/** Who is asking, by the key alone. */
export function identify(c: Ctx): Promise<Identity> {
  return keyring.identify(c.req.raw.headers, [c.env.KEY_SIGNING_SECRET])
}

export const notFound = (c: Ctx): Refusal =>
  new Refusal('not_found', `There is nothing at ${c.req.method} ${new URL(c.req.url).pathname}.`)

export function sourceOf(c: Ctx): SnapshotSource {
  return {
    load: async (known) => {
      const snapshot = await fleetObject(c.env).snapshot(known)
      return snapshot && completeSnapshot(snapshot) // the object may still be of the release before
    },
    now: Date.now,
    sleep,
    defer: (work) => c.executionCtx.waitUntil(work),
  }
}

export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
