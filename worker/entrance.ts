import type { Context } from 'hono'
import { completeSnapshot } from '../durable-objects/fleet/complete.ts'
import { noTerms } from '../durable-objects/fleet/terms.ts'
import type { JwtIssuer, Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { fleetObject, tenantObject, type AppEnv } from './env.ts'
import { admit, type Admittance, type Applicant } from './ingress/admit.ts'
import { Keyring, type Identity } from './ingress/authenticate.ts'
import { Tokens } from './ingress/jwt.ts'
import { countBadKey as countFrom } from './ingress/bad-keys.ts'
import { locate } from './ingress/locate.ts'
import { Standings } from './ingress/standing.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { modelAt, type Destination } from './routing/names.ts'
import { snapshots, type SnapshotSource } from './routing/snapshots.ts'
import { sleep } from './timers.ts'

export type Ctx = Context<AppEnv>

const keyring = new Keyring()
const tokens = new Tokens()
const standings = new Standings()

/** What a request comes in by. */
export interface Entered {
  readonly snapshot: Snapshot
  /** A host that is no model's means nothing. */
  readonly destination: Destination
}

/** The first checks: there is a fleet, and the URL's prefix is '' or a model's path. */
export async function entrance(c: Ctx, source: SnapshotSource = sourceOf(c)): Promise<Entered> {
  const { prefix } = locate(c.req.url)
  const destination = { prefix, host: new URL(c.req.url).hostname }
  const snapshot = await withNews(source, await snapshots.current(source), (latest) => {
    if (prefix !== '' && !modelAt(latest, destination)) throw notFound(c)
    return latest
  })
  c.get('receipt').shown = snapshot.receipts
  return { snapshot, destination }
}

/** Uses a snapshot; where it lacks a name, a newer one, so that what was just applied works at once. */
export async function withNews<T>(
  source: SnapshotSource,
  snapshot: Snapshot,
  use: (snapshot: Snapshot) => T | Promise<T>,
): Promise<T> {
  try {
    return await use(snapshot)
  } catch (error) {
    const unknown = error instanceof Refusal && UNKNOWN_NAMES.has(error.code)
    const newer = unknown ? await snapshots.news(source, snapshot.version) : null
    if (!newer) throw error
    return use(newer)
  }
}

const UNKNOWN_NAMES: ReadonlySet<RefusalCode> = new Set(['not_found', 'model_not_found'])

/**
 * Who is asking, by the key or the token alone. An address that shows one bad key after another is
 * told to stop.
 * @throws Refusal `invalid_api_key`, `rate_limit_exceeded`
 */
export async function identify(c: Ctx, { jwt = null }: Snapshot): Promise<Identity> {
  const { KEY_SIGNING_SECRET, KEY_SIGNING_SECRET_PREVIOUS } = c.env
  const secrets = [KEY_SIGNING_SECRET, KEY_SIGNING_SECRET_PREVIOUS].filter(isSet)
  const readToken = (token: string, issuer: JwtIssuer) => tokens.read(token, issuer)
  try {
    return await keyring.identify(c.req.raw.headers, { secrets, issuer: jwt, readToken })
  } catch (error) {
    if (error instanceof Refusal && error.code === 'invalid_api_key') await countBadKey(c)
    throw error
  }
}

/** Who asks, as the tenant's object is asked about him. */
export function applicantOf(c: Ctx, { version, terms }: Snapshot, identity: Identity): Applicant {
  return {
    tenant: () => tenantObject(c.env, identity.tenant),
    identity,
    terms: terms ?? noTerms(version),
    address: addressOf(c),
    standings,
    onBadKey: () => countBadKey(c),
  }
}

/**
 * Whether a key holds; nothing is counted.
 * @throws Refusal
 */
export async function checkKey(c: Ctx, snapshot: Snapshot): Promise<Admittance> {
  return mayKnow(c, applicantOf(c, snapshot, await identify(c, snapshot)))
}

/** As {@link checkKey}, of one who is known. What is left of his limits is told, whatever the answer is. */
export async function mayKnow(c: Ctx, applicant: Applicant): Promise<Admittance> {
  const admittance = await admit(applicant, null)
  if (admittance.allowances) c.get('receipt').allowances = admittance.allowances
  return admittance
}

const isSet = (secret: string | undefined): secret is string =>
  secret !== undefined && secret !== ''

/** The client's, '' where it is not known. */
export const addressOf = (c: Ctx): string => c.req.raw.headers.get('cf-connecting-ip') ?? ''

/**
 * Counts a bad key, or a bad token of an operator's, by its address.
 * @throws Refusal `rate_limit_exceeded`
 */
export const countBadKey = (c: Ctx): Promise<void> => countFrom(c.env.BAD_KEYS, addressOf(c))

export const notFound = (c: Ctx): Refusal =>
  new Refusal('not_found', `There is nothing at ${c.req.method} ${new URL(c.req.url).pathname}.`)

export function sourceOf(c: Ctx): SnapshotSource {
  return {
    load: async (known, revision) => {
      const snapshot = await fleetObject(c.env).snapshot(known, revision)
      return snapshot && completeSnapshot(snapshot) // the object may still be of the release before
    },
    now: Date.now,
    sleep,
    defer: (work) => c.executionCtx.waitUntil(work),
  }
}
