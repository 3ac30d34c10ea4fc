/**
 * The whole path over real sockets, for e2e tests: simulated vLLM that answers every endpoint, Nginx where asked for, the Worker with
 * its objects in workerd, the front. Free ports, storage of its own, nothing left behind.
 */
import { stringify } from 'yaml'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { compileFleet } from '../../durable-objects/fleet/compile.ts'
import { FLEET_NAME } from '../../durable-objects/fleet/contract.ts'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { poolObjectName } from '../../durable-objects/pool/name.ts'
import { adminOf, untilReady, type Admin } from '../../scripts/local/admin.ts'
import { startSiteNginx } from '../../scripts/local/demo.ts'
import { localFleet } from '../../scripts/local/demo-fleet.ts'
import { findNginx } from '../../scripts/local/nginx.ts'
import { startRouter } from '../../scripts/local/router.ts'
import { startSim, type Sim, type SimOptions } from '../../scripts/sim/server.ts'
import { builtWorker } from './e2e-setup.ts'
import { freePort } from './ports.ts'

type PoolInput = FleetInput['pools'][string]

export interface SimSpec {
  readonly id: string
  readonly pool: string
  /** In the fleet; default 8. */
  readonly slots?: number
  /** In the fleet; default 1. */
  readonly weight?: number
  readonly options?: Partial<SimOptions>
}

export interface StackOptions {
  readonly sims: readonly SimSpec[]
  /** Put a real Nginx, configured as a site's, between router and instances. Default false. */
  readonly viaNginx?: boolean
  /**
   * Whether that Nginx puts the name that a tenant asked by into chat's frames. Default true; an older
   * site's does not, and the router does it.
   */
  readonly nginxRenames?: boolean
  /**
   * Parts of the fleet that the test is about; what is missing is made from `sims`: a pool for each name
   * (`served_as` is that name, by fewest in flight, without breakers or queue), and for each pool a model of the same name at the path `/<name>`, whose
   * alias is `<name>-alias`: by the name streams need no edit, by the alias they do (see `nginxRenames`).
   */
  readonly fleet?: Partial<Omit<FleetInput, 'pools' | 'sites'>>
  /** Settings of single pools: policy, timeouts, `served_as`, … */
  readonly pools?: Readonly<Record<string, Partial<Omit<PoolInput, 'instances'>>>>
  /** A whole file instead; instances of it are moved to the simulators with the same ids. */
  readonly fleetYaml?: string
  /** Wait until every pool has a ready instance. Default true. */
  readonly ready?: boolean
  /** Further secrets of the Worker, beside those that every stack has. */
  readonly secrets?: Readonly<Record<string, string>>
  /** Services of the Worker that share its objects, each with memory of its own. Default 1. */
  readonly services?: number
  /**
   * Bundles to run in place of this tree's: the objects of one, and before them, as all that a test talks
   * to, the Worker of the other.
   */
  readonly bundles?: { readonly objects: string; readonly worker: string }
}

export interface Stack {
  /** Base URL of the router, without a slash at the end. */
  readonly url: string
  /** Of all services; the first is `url`. */
  readonly services: readonly string[]
  /** Of the tenant `test`, who has no plan and so no limits. */
  readonly apiKey: string
  readonly adminToken: string
  readonly admin: Admin
  /** The fleet as it was applied. */
  readonly yaml: string
  readonly sims: Readonly<Record<string, Sim>>
  /** Process id of workerd. */
  readonly workerPid: number
  /** workerd's own port, without the front. */
  readonly workerPort: number
  pool(name: string): Promise<PoolStatus>
  /** Resets a pool's object as a crash does: its memory is gone, and pending calls to it fail. */
  crashPool(name: string): Promise<void>
  /** The same for a tenant's object. */
  crashTenant(id: string): Promise<void>
  crashFleet(): Promise<void>
  /** The fleet object crashes with the next version: once it is stored, or once the first pool has it too. */
  crashFleetAt(when: 'unsent' | 'half-sent'): Promise<void>
  /** From now on admissions of a tenant wait, until what it resolves to is called. */
  holdTenant(id: string): Promise<() => Promise<void>>
  /**
   * Puts an object out of reach: calls to it fail at once, or are not answered, until what it resolves to
   * is called. A fleet object has no name.
   */
  outOfReach(
    object: { readonly pool: string } | 'fleet',
    how: 'throws' | 'hangs',
  ): Promise<() => Promise<void>>
  /** A request takes a slot of a pool and is over without giving it back. */
  walkAway(pool: string): Promise<void>
  /** What workerd and the Worker's console have written so far. */
  logs(): readonly string[]
  stop(): Promise<void>
}

const ADMIN_TOKEN = 'operator-for-tests'
const NODE_KEY = 'node-key-for-tests'
const SITE = 'lab'
const READY_MS = 15_000

/** Starts everything; what was started is stopped again when a later part fails. */
export async function startStack(options: StackOptions): Promise<Stack> {
  await using started = new AsyncDisposableStack()
  const { bundles } = options
  const draft = options.fleetYaml ?? fleetOf(options)
  const sims: Record<string, Sim> = {}
  const ports: Record<string, number> = {}
  for (const { id, pool, options: simOptions } of options.sims) {
    const port = await freePort() // one that refuses connections must not find another's simulator there
    const sim = await startSim({ model: servedAs(draft, pool), kind: 'all', port, ...simOptions })
    started.defer(() => sim.close())
    sims[id] = sim
    ports[id] = sim.port
  }
  const yaml = options.viaNginx
    ? await withNginx(draft, ports, { renames: options.nginxRenames ?? true }, started)
    : localFleet(draft, ports, null)

  const lines: string[] = []
  const router = await startRouter({
    host: '127.0.0.1',
    port: 0,
    storage: null,
    ...(await builtWorker()),
    ...(bundles && { code: bundles.objects, entryCode: bundles.worker, services: 2 }),
    secrets: {
      ADMIN_TOKEN,
      KEY_SIGNING_SECRET: 'a-signing-secret-for-tests',
      NODE_KEY,
      ...options.secrets,
    },
    ...(options.services && { services: options.services }),
    onLog: (line) => lines.push(line),
  })
  started.defer(() => router.stop())
  const url = (bundles && router.urls[1]) ?? router.url
  const admin = adminOf(url, ADMIN_TOKEN)
  await admin.applyFleet(yaml)
  await admin.createTenant('test')
  const apiKey = await admin.createKey('test', 'e2e')
  if (options.ready ?? true) {
    const missing = await untilReady(() => admin.pools(), READY_MS)
    if (missing.length > 0) throw new Error([...missing, ...lines].join('\n'))
  }
  const befall = async (what: string, object: string, said: string): Promise<void> => {
    const answer = await fetch(`${router.url}/__test/${what}/${object}`, { method: 'POST' })
    const text = await answer.text()
    if (!text.includes(said)) throw new Error(`${what} ${object}: ${text}`)
  }
  const crash = (object: string) => befall('crash', object, 'crashed by a test')
  const poolPath = (name: string): string => {
    const region = compiled(yaml).pools[name]?.region ?? null
    return `pool/${encodeURIComponent(poolObjectName(name, region))}`
  }
  const all = started.move()
  return {
    url,
    services: router.urls,
    apiKey,
    adminToken: ADMIN_TOKEN,
    admin,
    yaml,
    sims,
    workerPid: router.workerPid,
    workerPort: router.workerPort,
    async pool(name) {
      const found = (await admin.pools()).find(({ pool }) => pool === name)
      if (!found) throw new Error(`no pool ${name}`)
      return found
    },
    crashPool: (name) => crash(poolPath(name)),
    crashTenant: (id) => crash(`tenant/${id}`),
    crashFleet: () => crash(`fleet/${FLEET_NAME}`),
    crashFleetAt: (when) =>
      befall(when === 'unsent' ? 'dieUnsent' : 'dieHalfSent', `fleet/${FLEET_NAME}`, 'done'),
    async holdTenant(id) {
      await befall('hold', `tenant/${id}`, 'done')
      return () => befall('letGo', `tenant/${id}`, 'done')
    },
    async outOfReach(object, how) {
      const path = object === 'fleet' ? `fleet/${FLEET_NAME}` : poolPath(object.pool)
      await befall(how, path, 'done')
      return () => befall('putBack', path, 'done')
    },
    walkAway: (pool) => befall('walkAway', `pool/${pool}`, 'done'),
    logs: () => [...lines],
    stop: () => all.disposeAsync(),
  }
}

/** A fleet of one site in which every simulator has its place; addresses are put in later. */
function fleetOf({ sims, fleet, pools }: StackOptions): string {
  const names = [...new Set(sims.map(({ pool }) => pool))]
  const instances = sims.map(({ id, pool, slots = 8, weight = 1 }, i) => ({
    pool,
    instance: { id, site: SITE, port: i + 1, slots, weight },
  }))
  const poolOf = (name: string) => ({
    served_as: name,
    // An instance that a test makes fail must go on being asked; tests of breakers say otherwise.
    breaker: { max_ejected: 0 },
    queue: { max: 0 },
    policy: 'least_inflight',
    ...pools?.[name],
    instances: instances.filter(({ pool }) => pool === name).map(({ instance }) => instance),
  })
  const file = {
    sites: { [SITE]: { origin: 'http://127.0.0.1:1', node_key: 'NODE_KEY' } },
    models: Object.fromEntries(
      names.map((name) => [
        name,
        { path: `/${name}`, aliases: [`${name}-alias`], arms: [{ pool: name }] },
      ]),
    ),
    ...fleet,
    pools: Object.fromEntries(names.map((name) => [name, poolOf(name)])),
  }
  return stringify(file)
}

async function withNginx(
  draft: string,
  ports: Readonly<Record<string, number>>,
  { renames }: { renames: boolean },
  started: AsyncDisposableStack,
): Promise<string> {
  const command = await findNginx()
  if (command === null) throw new Error('this test needs nginx: apt-get install nginx-light')
  const port = await freePort()
  const yaml = localFleet(draft, ports, `http://127.0.0.1:${port}`)
  const changed = (conf: string) => (renames ? conf : conf.replaceAll(/^ *sub_filter .*\n/gm, ''))
  await startSiteNginx({ command, fleet: fileOf(yaml), port, nodeKey: NODE_KEY, changed }, started)
  return yaml
}

function fileOf(yaml: string) {
  const checked = checkFleet(yaml)
  if (checked.ok) return checked.fleet
  throw new Error(`the test's fleet: ${JSON.stringify(checked.problems, null, 2)}\n${yaml}`)
}

const compiled = (yaml: string) => compileFleet(fileOf(yaml), 1, {}).snapshot

function servedAs(draft: string, pool: string): string {
  const name = fileOf(draft).pools[pool]?.served_as
  if (name === undefined) throw new Error(`the fleet has no pool ${pool}`)
  return name
}
