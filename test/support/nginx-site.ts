/** A site's own Nginx as it is rendered, for unit tests that put it between a client and an instance. */
import { userInfo } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { renderNginx } from '../../scripts/kit/nginx.ts'
import { findNginx, startNginx, type Nginx } from '../../scripts/local/nginx.ts'
import { freePort } from './ports.ts'

const HOST = '127.0.0.1'
export const NODE_KEY = 'key-one'

/** The binary's path, or null: then its tests do nothing here, but fail in CI. */
export async function nginxHere(): Promise<string | null> {
  const command = await findNginx()
  if (command !== null) return command
  if (process.env['CI'] === 'true') throw new Error('nginx is missing: apt-get install nginx-light')
  console.warn('nginx is missing, its tests do nothing here: apt-get install nginx-light')
  return null
}

/** @throws with every problem that the check finds */
export function fleetOf(yaml: string): FleetFile {
  const checked = checkFleet(yaml)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}

export interface SiteUp {
  /** Of HTTP, on 127.0.0.1. */
  readonly port: number
  /** Of native gRPC; 0 where none was asked for. */
  readonly grpcPort: number
  /** The rendered file. */
  readonly conf: string
  readonly nginx: Nginx
}

/** Runs Nginx for `site` after `nginx -t` has passed. */
export async function startSite(
  command: string,
  fleet: FleetFile,
  { site, grpc = false }: { site: string; grpc?: boolean },
): Promise<SiteUp> {
  const port = await freePort()
  let grpcPort = 0
  while (grpc && (grpcPort === 0 || grpcPort === port)) grpcPort = await freePort()
  let rendered = ''
  const nginx = await startNginx({
    command,
    conf: (runDir) => {
      rendered = renderNginx(fleet, site, {
        listen: `${HOST}:${port}`,
        nodeKeyFile: join(runDir, 'keys'),
        runDir,
        ...(grpc && { grpcListen: `${HOST}:${grpcPort}` }),
        // Started by root, its workers could not enter the folder as anybody else.
        ...(process.getuid?.() === 0 && { user: userInfo().username }),
      })
      return rendered
    },
    files: { keys: `"${NODE_KEY}" 1;\n` },
    host: HOST,
    port,
  })
  return { port, grpcPort, conf: rendered, nginx }
}
