/** What must hold between the instances of a file: who is where, and who is a last resort. */
import { parseHost, parseInstanceUrl } from './address.ts'
import { Unique, entries, instancesOf, unknownName } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'
import type { Path } from './source.ts'

type InstanceDraft = ReturnType<typeof instancesOf>[number]

/** One instance, where it stands, and what messages call it. */
interface Placed {
  readonly instance: InstanceDraft
  readonly path: Path
  readonly name: string
}

/** Ports are taken once per host, whatever is behind them. */
function* siteAddressRules({ instance, path, name }: Placed, taken: Unique): Generator<Finding> {
  const host = parseHost(instance.host ?? '127.0.0.1')
  if (instance.host === null || !host.ok) return
  for (const field of ['port', 'grpc_port'] as const) {
    const port = instance[field]
    if (typeof port !== 'number') continue
    const before = taken.seen(`${instance.site} ${host.value} ${port}`, name)
    if (before === null) continue
    const message =
      field === 'grpc_port' && port === instance.port
        ? 'is the same as port: a gRPC server listens on a port of its own'
        : `instance ${before} is at this site, host and port already`
    yield { path: [...path, field], message }
  }
}

function* urlRules({ instance, path, name }: Placed, taken: Unique): Generator<Finding> {
  const { url: text, key_env, last_resort } = instance
  const url = typeof text === 'string' ? parseInstanceUrl(text) : null
  if (!url?.ok) return
  const before = taken.seen(url.value, name)
  if (before !== null)
    yield { path: [...path, 'url'], message: `instance ${before} has this url already` }
  if (!url.value.startsWith('https:')) return
  if (last_resort === undefined || last_resort === false) {
    const message =
      'an https url is a hosted service, which a pool may have as its last resort only: add last_resort: true, or put the machine behind a site'
    yield { path: [...path, 'url'], message }
  }
  if (key_env === undefined) {
    const message =
      'key_env is missing: name the Worker secret with the key of this hosted service, e.g. SERVICE_KEY'
    yield { path: [...path, 'key_env'], message }
  }
}

/** Every rule about instances. */
export function* instanceRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  const sites = Object.keys(fleet.sites ?? {})
  const [ids, addresses] = [new Unique(), new Unique()]
  for (const [pool, spec] of entries(fleet.pools)) {
    const instances = instancesOf(spec)
    for (const [index, instance] of instances.entries()) {
      const path = ['pools', pool, 'instances', index]
      const placed = { instance, path, name: instance.id ?? `${pool}[${index}]` }
      if (typeof instance.id === 'string') {
        const before = ids.seen(instance.id, pool)
        const message = `instance ${instance.id} is in pool ${before} already; ids are unique in the whole fleet`
        if (before !== null) yield { path: [...path, 'id'], message }
      }
      if (typeof instance.site === 'string') {
        if (fleet.sites !== null && !sites.includes(instance.site)) {
          yield { path: [...path, 'site'], message: unknownName('site', instance.site, sites) }
        }
        yield* siteAddressRules(placed, addresses)
      } else {
        yield* urlRules(placed, addresses)
      }
    }
    if (instances.length > 0 && instances.every(({ last_resort }) => last_resort === true)) {
      const message = 'every instance is a last resort; a pool needs at least one that is not'
      yield { path: ['pools', pool, 'instances'], at: 'key', message }
    }
  }
}
