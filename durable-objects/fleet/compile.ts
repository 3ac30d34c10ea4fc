import { jwtIssuer } from './auth-schema.ts'
import { adaptersOf, comparedOn, modelRoute } from './compile-models.ts'
import type { FleetFile, InstanceSpec, PoolSpec } from './schema.ts'
import { poolSettings } from './settings.ts'
import type { PoolSettings } from './settings.ts'
import type {
  BreakerConfig,
  InstanceConfig,
  PoolConfig,
  PoolRoute,
  SecretHeader,
  Snapshot,
  StandbyTarget,
} from './snapshot.ts'
import { compileTerms, type LastSaid } from './terms.ts'

/**
 * Number of what {@link compileFleet} makes of a file. Raised whenever the same file becomes something
 * else: what is stored under another number is made anew from its file.
 */
export const FORMAT = 6

/** One fleet version, ready to be handed out. */
export interface Compiled {
  readonly format: number
  readonly snapshot: Snapshot
  readonly pools: readonly PoolConfig[]
}

export const mapValues = <T, U>(
  record: Readonly<Record<string, T>>,
  to: (value: T, key: string) => U,
): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, to(value, key)]))

function siteSecrets(fleet: FleetFile, id: string): readonly SecretHeader[] {
  const { node_key, access } = fleet.sites[id] ?? {}
  const secrets: SecretHeader[] = []
  if (node_key !== undefined) secrets.push({ header: 'x-penstock-node-key', secret: node_key })
  if (access !== undefined) {
    secrets.push({ header: 'cf-access-client-id', secret: access.id })
    secrets.push({ header: 'cf-access-client-secret', secret: access.secret })
  }
  return secrets
}

function instanceConfig(
  fleet: FleetFile,
  { served_as }: PoolSpec,
  instance: InstanceSpec,
): InstanceConfig {
  const { id, slots, weight } = instance
  if ('url' in instance) {
    const { url, key_env, last_resort: lastResort } = instance
    const secrets =
      key_env === undefined ? [] : [{ header: 'authorization', secret: key_env, prefix: 'Bearer ' }]
    const process = `${url} ${served_as}`
    const place = { site: null, region: null }
    return { instance: id, process, base: url, ...place, secrets, slots, weight, lastResort }
  }
  const site = fleet.sites[instance.site]
  const base = `${site?.origin}/i/${id}`
  return {
    instance: id,
    process: `${instance.site} ${instance.host}:${instance.port} ${served_as}`,
    base,
    site: instance.site,
    region: site?.region ?? null,
    secrets: siteSecrets(fleet, instance.site),
    slots,
    weight,
    lastResort: false,
  }
}

/** The breaker's settings by the names they have in a compiled version. */
export const breakerConfig = (breaker: PoolSettings['breaker']): BreakerConfig => ({
  windowMs: breaker.window,
  minRequests: breaker.min_requests,
  errorRatio: breaker.error_ratio,
  consecutive: breaker.consecutive,
  openMs: breaker.open,
  openMaxMs: breaker.open_max,
  halfOpen: breaker.half_open,
  maxEjected: breaker.max_ejected,
})

function poolConfig(fleet: FleetFile, pool: string, spec: PoolSpec, version: number): PoolConfig {
  const settings = poolSettings(spec, fleet.defaults)
  const { policy, scorers, health, breaker, queue, slow_start: slowStartMs } = settings
  return {
    version,
    pool,
    servedAs: spec.served_as,
    policy,
    scorers,
    health: {
      everyMs: health.every,
      timeoutMs: health.timeout,
      downAfter: health.down_after,
      upAfter: health.up_after,
    },
    breaker: breakerConfig(breaker),
    queue: { max: queue.max, waitMs: queue.wait },
    slowStartMs,
    instances: spec.instances.map((instance) => instanceConfig(fleet, spec, instance)),
    adapters: adaptersOf(fleet, pool),
    compared: comparedOn(fleet, pool),
  }
}

/** An instance as far as a Worker by itself needs it: it judges no health, and knows of no regions. */
function standbyTarget(instance: InstanceConfig): StandbyTarget {
  const { process: _process, region: _region, ...target } = instance
  return target
}

function poolRoute(fleet: FleetFile, pool: string, spec: PoolSpec): PoolRoute {
  const settings = poolSettings(spec, fleet.defaults)
  const { timeouts, retry, limits, media } = settings
  const first = spec.instances.find((instance) => 'site' in instance)
  return {
    pool,
    servedAs: spec.served_as,
    timeouts: {
      firstByteMs: timeouts.first_byte,
      idleMs: timeouts.idle,
      totalMs: timeouts.total,
    },
    attempts: retry.attempts,
    earlyCommitMs: settings.early_commit,
    limits: {
      bodyBytes: limits.body,
      audioBytes: limits.audio,
      n: limits.n,
      outputTokens: limits.output_tokens,
    },
    bodyBytes: limits.body,
    mediaDomains: media.domains,
    mediaTokens: { image: media.image_tokens, audioSecond: media.audio_tokens_per_second },
    reasoningField: settings.reasoning_field,
    region: (first && fleet.sites[first.site]?.region) ?? null,
    instances: spec.instances.map((instance) =>
      standbyTarget(instanceConfig(fleet, spec, instance)),
    ),
  }
}

/**
 * Turns a checked file into what the Worker routes by and what each pool object needs.
 *
 * @param created  Unix seconds by model name; a model that is not in it gets 0
 * @param lastSaid plans of the versions before
 */
export function compileFleet(
  fleet: FleetFile,
  version: number,
  created: Readonly<Record<string, number>>,
  lastSaid: LastSaid = {},
): Compiled {
  const createdAt = (name: string): number =>
    Object.hasOwn(created, name) ? (created[name] ?? 0) : 0
  return {
    format: FORMAT,
    snapshot: {
      version,
      revision: 0, // raised where shares change without a new version
      models: mapValues(fleet.models, (spec, name) => modelRoute(name, spec, createdAt(name))),
      pools: mapValues(fleet.pools, (spec, pool) => poolRoute(fleet, pool, spec)),
      corsOrigins: fleet.cors.origins,
      receipts: fleet.receipts,
      terms: compileTerms(fleet, version, lastSaid),
      jwt: jwtIssuer(fleet.auth),
    },
    pools: Object.entries(fleet.pools).map(([id, spec]) => poolConfig(fleet, id, spec, version)),
  }
}

/** Names of every Worker secret the file asks for, each once, in alphabetical order. */
export function namedSecrets(fleet: FleetFile): readonly string[] {
  const names = new Set<string>()
  for (const { node_key, access } of Object.values(fleet.sites)) {
    for (const name of [node_key, access?.id, access?.secret])
      if (name !== undefined) names.add(name)
  }
  for (const { instances } of Object.values(fleet.pools)) {
    for (const instance of instances) {
      if ('url' in instance && instance.key_env !== undefined) names.add(instance.key_env)
    }
  }
  for (const { url_secret } of fleet.webhooks) names.add(url_secret)
  return [...names].sort()
}
