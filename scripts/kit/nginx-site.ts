/** What a site's Nginx needs to know of the fleet, and how addresses and paths are written for it. */
import { isPrivateHost } from '../../durable-objects/fleet/address.ts'
import type { FleetFile, InstanceSpec } from '../../durable-objects/fleet/schema.ts'
import { poolSettings } from '../../durable-objects/fleet/settings.ts'

/** Added to the largest body: the edge puts a few fields of its own into it. */
const BODY_MARGIN_BYTES = 1024 ** 2
/** Added to the longest silence, so that the edge's own timeout, which can retry, comes first. */
const READ_MARGIN_MS = 10_000

type SiteInstance = Extract<InstanceSpec, { site: string }>

/** One instance of the site, with the limits of its pool. */
export interface Backend extends SiteInstance {
  readonly pool: string
  readonly bodyBytes: number
  readonly audioBytes: number
  /** Longest silence of an answer. */
  readonly readSeconds: number
  /** Longest silence of a WebSocket: a whole request's time, since an idle one may be well. */
  readonly totalSeconds: number
}

const seconds = (ms: number): number => Math.ceil((ms + READ_MARGIN_MS) / 1000)

/** The instances that this site's Nginx reaches, in the order of the file. */
export function backendsOf(fleet: FleetFile, site: string): readonly Backend[] {
  return Object.entries(fleet.pools).flatMap(([pool, spec]) => {
    const { limits, timeouts } = poolSettings(spec, fleet.defaults)
    return spec.instances
      .filter((instance): instance is SiteInstance => 'site' in instance && instance.site === site)
      .map((instance) => ({
        ...instance,
        pool,
        bodyBytes: limits.body + BODY_MARGIN_BYTES,
        audioBytes: limits.audio + BODY_MARGIN_BYTES,
        readSeconds: seconds(Math.max(timeouts.first_byte, timeouts.idle)),
        totalSeconds: seconds(timeouts.total),
      }))
  })
}

/** Where Nginx finds an instance: its HTTP port, or another one of its. */
export const addressOf = ({ host, port }: { host: string; port: number }): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`

/** A path as Nginx reads it. Nginx would expand globs and variables, so those are refused. */
export function filePath(path: string): string {
  if (/^\/[A-Za-z0-9._/@+ -]*$/.test(path)) return `"${path}"`
  throw new Error(`${path}: use an absolute path of letters, digits, spaces and . _ / @ + -`)
}

/** @throws Error where it is no address with a port, or one that strangers reach and no key guards */
export function listenAddress(listen: string, hasNodeKey: boolean): string {
  const match = /^(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):\d{1,5}$/.exec(listen)
  if (match === null) throw new Error(`${listen}: write an address and a port, e.g. 127.0.0.1:8080`)
  if (!hasNodeKey && !isPrivateHost(match[1] ?? '')) {
    throw new Error(
      `${listen}: a site without node_key may listen on loopback and private addresses only`,
    )
  }
  return listen
}
