/** The real command line as a process of its own, against a router. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { PROJECT } from '../../scripts/local/bundle.ts'

export interface Ran {
  readonly exit: number | null
  readonly out: string
  readonly err: string
}

export interface Place {
  readonly url: string
  readonly adminToken: string
}

/** Runs `penstock` with nobody at the terminal. */
export async function penstock(
  { url, adminToken }: Place,
  ...args: readonly string[]
): Promise<Ran> {
  const { PATH = '' } = process.env
  const child = spawn(process.execPath, [join(PROJECT, 'scripts/penstock.ts'), ...args], {
    env: { PATH, PENSTOCK_URL: url, PENSTOCK_ADMIN_TOKEN: adminToken },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [exit] = (await exited) as [number | null]
  return { exit, out, err }
}
