import { isMap, isSeq, parseDocument, type YAMLMap } from 'yaml'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'

/** One instance of the example, as the demo simulates it. */
export interface DemoInstance {
  readonly id: string
  readonly pool: string
  readonly servedAs: string
  readonly slots: number
  /** Port that the file gives it; null for an instance that has none of its own. */
  readonly port: number | null
}

/**
 * The instances of a fleet, each with the port it should have on one machine: an instance whose port
 * another one has already, on another host, goes without.
 */
export function demoInstances(fleet: FleetFile): readonly DemoInstance[] {
  const given = new Set<number>()
  return Object.entries(fleet.pools).flatMap(([pool, spec]) =>
    spec.instances.map((instance) => {
      const port = 'port' in instance && !given.has(instance.port) ? instance.port : null
      if (port !== null) given.add(port)
      return { id: instance.id, pool, servedAs: spec.served_as, slots: instance.slots, port }
    }),
  )
}

/**
 * The same fleet on this machine: instances at the given ports, behind a local Nginx or, without one,
 * called directly. Everything else stays as it was written, so that the demo shows the real file.
 *
 * @param ports  where each instance listens on 127.0.0.1, by id
 * @param origin the local Nginx, `http://127.0.0.1:8080`; null calls each instance by its own URL
 */
export function localFleet(
  text: string,
  ports: Readonly<Record<string, number>>,
  origin: string | null,
): string {
  const document = parseDocument(text)
  document.commentBefore = ' The example fleet, with the addresses of this machine.'
  for (const instance of instancesOf(document.get('pools'))) {
    const port = ports[String(instance.get('id'))]
    if (port === undefined) continue
    instance.comment = null
    instance.delete('grpc_port') // the simulated ones speak HTTP alone
    if (origin === null) {
      for (const key of ['site', 'host', 'port']) instance.delete(key)
      instance.set('url', `http://127.0.0.1:${port}`)
    } else {
      instance.delete('host')
      instance.set('port', port)
    }
  }
  if (origin === null) document.delete('sites')
  else {
    for (const site of mapsIn(document.get('sites'))) {
      site.set('origin', origin)
      site.delete('access') // no tunnel here, so nobody who would ask for the token
    }
  }
  return document.toString()
}

const mapsIn = (node: unknown): readonly YAMLMap[] =>
  isMap(node) ? node.items.map((pair) => pair.value).filter(isMap<unknown, unknown>) : []

const instancesOf = (pools: unknown): readonly YAMLMap[] =>
  mapsIn(pools).flatMap((pool) => {
    const list = pool.get('instances')
    return isSeq(list) ? list.items.filter(isMap<unknown, unknown>) : []
  })
