import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { namedSecrets } from '../../durable-objects/fleet/compile.ts'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { renderNginx } from '../kit/nginx.ts'
import { startSim } from '../sim/server.ts'
import { PROJECT } from './bundle.ts'
import type { LocalInstance } from './data-dir.ts'
import { demoInstances, localFleet } from './demo-fleet.ts'
import { findNginx, startNginx } from './nginx.ts'
import { firstFreePort } from './ports.ts'
import type { Screen } from './screen.ts'

const HOST = '127.0.0.1'
const NGINX_PORT = 8080
const INSTALL_NGINX =
  'nginx is not installed, so the router calls the instances directly (Debian: apt-get install nginx-light, macOS: brew install nginx)'

/** A fleet that is up, and what the router needs to know of it. */
export interface RunningFleet {
  readonly fleet: FleetFile
  readonly yaml: string
  /** Values of the secrets that the fleet names. */
  readonly secrets: Readonly<Record<string, string>>
  readonly instances: readonly LocalInstance[]
  /** Settles when something that the fleet needs has ended by itself; the text says what. */
  readonly ended: Promise<string>
}

/**
 * The example fleet on this machine: every instance simulated, in this process, behind a real Nginx.
 *
 * @param stack what is started is stopped when the stack is disposed of
 */
export async function startDemo(
  stack: AsyncDisposableStack,
  screen: Screen,
): Promise<RunningFleet> {
  const example = await readFile(join(PROJECT, 'fleet.example.yaml'), 'utf8')
  const { instances, ports } = await startSims(checked(example), stack, screen)
  const nginx = await findNginx()
  if (nginx === null) {
    screen.note(INSTALL_NGINX)
    const yaml = localFleet(example, ports, null)
    return { fleet: checked(yaml), yaml, secrets: {}, instances, ended: new Promise(() => {}) }
  }

  const port = await firstFreePort({ host: HOST, from: NGINX_PORT })
  if (port !== NGINX_PORT) screen.note(`port ${NGINX_PORT} is taken: nginx gets ${port}`)
  const yaml = localFleet(example, ports, `http://${HOST}:${port}`)
  const fleet = checked(yaml)
  const nodeKey = randomBytes(24).toString('base64url')
  const { ended } = await startSiteNginx({ command: nginx, fleet, port, nodeKey }, stack)
  screen.done(`nginx on ${port}, as the site's own would be`)
  const secrets = Object.fromEntries(namedSecrets(fleet).map((name) => [name, nodeKey]))
  return { fleet, yaml, secrets, instances, ended }
}

async function startSims(fleet: FleetFile, stack: AsyncDisposableStack, screen: Screen) {
  const wanted = demoInstances(fleet)
  const promised = new Set(wanted.flatMap(({ port }) => port ?? []))
  const beyond = Math.max(...promised) + 1
  const ports: Record<string, number> = {}
  const instances: LocalInstance[] = []
  for (const { id, pool, servedAs, slots, port: wish } of wanted) {
    if (wish !== null) promised.delete(wish)
    const port = await firstFreePort({ host: HOST, from: wish ?? beyond, promised })
    if (wish !== null && port !== wish) screen.note(`port ${wish} is taken: ${id} gets ${port}`)
    promised.add(port)
    const sim = await startSim({ model: servedAs, host: HOST, port, maxNumSeqs: slots })
    stack.defer(() => sim.close())
    ports[id] = port
    instances.push({ id, pool, url: sim.url, ...(sim.controlUrl && { control: sim.controlUrl }) })
    screen.done(`${id} simulates ${servedAs} on ${port}`)
  }
  return { ports, instances }
}

export interface SiteNginx {
  /** The binary, as {@link findNginx} returns it. */
  readonly command: string
  /** A fleet with one site. */
  readonly fleet: FleetFile
  readonly port: number
  /** What Nginx asks of the router. */
  readonly nodeKey: string
  /** Changes the configuration that the kit writes, for a site of another age. */
  readonly changed?: (conf: string) => string
}

/** Runs Nginx as the one site of `fleet` has it; `ended` settles when it has ended, and says how. */
export async function startSiteNginx(
  { command, fleet, port, nodeKey, changed = (conf) => conf }: SiteNginx,
  stack: AsyncDisposableStack,
): Promise<{ readonly ended: Promise<string> }> {
  const [site] = Object.keys(fleet.sites)
  if (site === undefined) throw new Error('the fleet has no site')
  // Started by root, Nginx would run as somebody who may not enter that folder.
  const user = process.getuid?.() === 0 ? userInfo().username : undefined
  const listen = `${HOST}:${port}`
  const keyFile = 'node-key.map'
  const nginx = await startNginx({
    command,
    conf: (runDir) =>
      changed(
        renderNginx(fleet, site, {
          listen,
          nodeKeyFile: join(runDir, keyFile),
          runDir,
          ...(user !== undefined && { user }),
        }),
      ),
    files: { [keyFile]: `"${nodeKey}" 1;\n` },
    host: HOST,
    port,
  })
  stack.defer(() => nginx.stop())
  return { ended: nginx.ended.then((how) => `nginx ${how}`) }
}

/** @throws where the project's own example has a mistake */
function checked(text: string): FleetFile {
  const result = checkFleet(text)
  if (result.ok) return result.fleet
  throw new Error(`the demo's fleet: ${JSON.stringify(result.problems)}`)
}
