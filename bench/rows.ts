import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { checkFleet } from '../durable-objects/fleet/check.ts'
import type { FleetInput } from '../durable-objects/fleet/schema.ts'
import { adminOf, untilReady } from '../scripts/local/admin.ts'
import { bundleWorker } from '../scripts/local/bundle.ts'
import { readWorkerConfig } from '../scripts/local/config.ts'
import { startSiteNginx } from '../scripts/local/demo.ts'
import { startFront } from '../scripts/local/front.ts'
import { findNginx } from '../scripts/local/nginx.ts'
import { firstFreePort } from '../scripts/local/ports.ts'
import { startRouter } from '../scripts/local/router.ts'
import { startWorkerd } from '../scripts/local/workerd.ts'
import type { Target } from './connection.ts'
import { startUpstream } from './forked.ts'
import { ALIAS, MODEL, SITE_ALIAS, SITE_MODEL } from './workload.ts'

/** The ways to the same upstream that are compared. `null`: Nginx is not installed here. */
export interface Rows {
  readonly direct: Target
  readonly nginx: Target | null
  /** The bare pass-through Worker, and the router: both behind the front of a local run. */
  readonly bare: Target
  readonly router: Target
  readonly routerNginx: Target | null
  /** The same two on workerd's own port: the front is no part of a deployed router. */
  readonly bareAlone: Target
  readonly routerAlone: Target
  /** The router where the tenant asked by an alias: the Worker edits every frame. */
  readonly routerEdited: Target
  /** The same through a site, whose Nginx says the alias. */
  readonly nginxEdited: Target | null
  /** The router with its objects ten milliseconds away; the tenant's object asked at the same time, not at all, and first. */
  readonly admitted: Target
  readonly unadmitted: Target
  readonly inTurn: Target
  /** Process ids of the two workerds. */
  readonly pids: { readonly bare: number; readonly router: number }
}

const HOST = '127.0.0.1'
const CHAT = '/v1/chat/completions'
const SITE = 'lab'
const BY_URL = 'by-url'
const BY_SITE = 'by-site'
const PLAN = 'bench'
const SLOTS = 1_024
const READY_MS = 15_000
/** How the tenant's object is asked, and what the row is called then. */
const ADMISSIONS = { on: '', off: ', no admission', 'in-turn': ', admission first' } as const

/** Starts everything that is measured. */
export async function startRows(stack: AsyncDisposableStack): Promise<Rows> {
  const upstream = await startUpstream(stack)
  const nodeKey = randomBytes(24).toString('base64url')
  const nginxPort = await startNginx(upstream, nodeKey, stack)
  const bare = await startBare(upstream, stack)
  const router = await startFleet(upstream, nginxPort, nodeKey, stack)
  const far = await startFleet(upstream, nginxPort, nodeKey, stack, await bundled('far-entry.js'))

  const plain = { path: CHAT, model: MODEL, headers: {}, proof: null }
  const keyed = { path: CHAT, headers: { authorization: `Bearer ${router.apiKey}` } }
  const byUrl = { ...keyed, model: MODEL, proof: `x-penstock-instance: ${BY_URL}` }
  const farRow = (admission: keyof typeof ADMISSIONS): Target => ({
    ...byUrl,
    label: `router, objects 10 ms away${ADMISSIONS[admission]}`,
    port: far.workerPort,
    headers: { authorization: `Bearer ${far.apiKey}`, 'x-bench-admission': admission },
  })
  return {
    direct: { ...plain, label: 'direct to the upstream', port: upstream },
    nginx:
      nginxPort === null
        ? null
        : {
            label: "through the site's Nginx",
            port: nginxPort,
            path: `/i/${BY_SITE}${CHAT}`,
            model: SITE_MODEL,
            headers: { 'x-penstock-node-key': nodeKey },
            proof: `x-penstock-origin: ${SITE}`,
          },
    bare: { ...plain, label: 'bare Worker', port: bare.frontPort },
    router: { ...byUrl, label: 'router', port: router.frontPort },
    routerNginx:
      nginxPort === null
        ? null
        : {
            ...keyed,
            label: 'router and Nginx',
            port: router.frontPort,
            model: SITE_MODEL,
            proof: `x-penstock-instance: ${BY_SITE}`,
          },
    bareAlone: { ...plain, label: 'bare Worker, without the front', port: bare.workerPort },
    routerAlone: { ...byUrl, label: 'router, without the front', port: router.workerPort },
    routerEdited: {
      ...byUrl,
      label: 'router, every frame edited by the Worker',
      port: router.workerPort,
      model: ALIAS,
    },
    nginxEdited:
      nginxPort === null
        ? null
        : {
            ...keyed,
            label: "router, every frame edited by the site's Nginx",
            port: router.workerPort,
            model: SITE_ALIAS,
            proof: `x-penstock-instance: ${BY_SITE}`,
          },
    admitted: farRow('on'),
    unadmitted: farRow('off'),
    inTurn: farRow('in-turn'),
    pids: { bare: bare.pid, router: router.pid },
  }
}

/** Two pools with the same upstream behind them: one called by its URL, one through the site. */
function fleetFile(upstream: number, nginxPort: number | null): string {
  type Instance = FleetInput['pools'][string]['instances'][number]
  const pool = (served_as: string, instance: Instance) => ({ served_as, instances: [instance] })
  const url = `http://${HOST}:${upstream}`
  const file: FleetInput = {
    pools: { [BY_URL]: pool(MODEL, { id: BY_URL, url, slots: SLOTS }) },
    models: { [MODEL]: { aliases: [ALIAS], arms: [{ pool: BY_URL }] } },
    // Limits that are checked and never reached.
    plans: { [PLAN]: { rpm: 10_000_000, tpm: 1_000_000_000, concurrency: 10_000 } },
  }
  if (nginxPort !== null) {
    file.sites = { [SITE]: { origin: `http://${HOST}:${nginxPort}`, node_key: 'NODE_KEY' } }
    file.pools[BY_SITE] = pool(SITE_MODEL, {
      id: BY_SITE,
      site: SITE,
      port: upstream,
      slots: SLOTS,
    })
    file.models[SITE_MODEL] = { aliases: [SITE_ALIAS], arms: [{ pool: BY_SITE }] }
  }
  return stringify(file)
}

/** @returns its port; null where it is not installed */
async function startNginx(
  upstream: number,
  nodeKey: string,
  stack: AsyncDisposableStack,
): Promise<number | null> {
  const command = await findNginx()
  if (command === null) return null
  const port = await firstFreePort({ host: HOST, from: 18_080 })
  const checked = checkFleet(fleetFile(upstream, port))
  if (!checked.ok) throw new Error(`the benchmark's fleet: ${JSON.stringify(checked.problems)}`)
  await startSiteNginx({ command, fleet: checked.fleet, port, nodeKey }, stack)
  return port
}

const bundled = (entry: string): Promise<string> =>
  bundleWorker(fileURLToPath(new URL(entry, import.meta.url)))

async function startBare(upstream: number, stack: AsyncDisposableStack) {
  const workerd = await startWorkerd({
    config: { ...(await readWorkerConfig()), objects: [], vars: {}, versionBinding: null },
    code: await bundled('bare.js'),
    secrets: {},
    texts: { UPSTREAM: `http://${HOST}:${upstream}${CHAT}` },
    storage: null,
  })
  stack.defer(() => workerd.stop())
  const front = await startFront({ workerPort: workerd.port, host: HOST, port: 0 })
  stack.defer(() => front.stop())
  return { pid: workerd.pid, workerPort: workerd.port, frontPort: front.port }
}

async function startFleet(
  upstream: number,
  nginxPort: number | null,
  nodeKey: string,
  stack: AsyncDisposableStack,
  code?: string,
) {
  const adminToken = randomBytes(24).toString('base64url')
  const signing = randomBytes(24).toString('base64url')
  const said: string[] = []
  const router = await startRouter({
    host: HOST,
    port: 0,
    storage: null,
    ...(code !== undefined && { code }),
    secrets: { ADMIN_TOKEN: adminToken, KEY_SIGNING_SECRET: signing, NODE_KEY: nodeKey },
    onLog: (line) => said.push(line),
  })
  stack.defer(() => router.stop())
  const admin = adminOf(router.url, adminToken)
  await admin.applyFleet(fleetFile(upstream, nginxPort))
  await admin.createTenant('bench', PLAN)
  const apiKey = await admin.createKey('bench', 'bench')
  const missing = await untilReady(() => admin.pools(), READY_MS)
  if (missing.length > 0) throw new Error([...missing, ...said].join('\n'))
  return {
    apiKey,
    pid: router.workerPid,
    workerPort: router.workerPort,
    frontPort: Number(new URL(router.url).port),
  }
}
