/** The real command line as a process of its own, as an operator starts it. */
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { PROJECT } from '../../scripts/local/bundle.ts'

/** What Node has compiled of it once: most of a command's time is its start. */
const COMPILED = join(tmpdir(), 'penstock-compiled')

export interface Ran {
  readonly exit: number | null
  readonly out: string
  readonly err: string
}

export interface Place {
  readonly url: string
  readonly adminToken: string
}

const envOf = ({ url, adminToken }: Place) => ({
  PATH: process.env['PATH'],
  PENSTOCK_URL: url,
  PENSTOCK_ADMIN_TOKEN: adminToken,
  NODE_COMPILE_CACHE: COMPILED,
})

/** Runs `penstock` with nobody at the terminal, whatever comes of it. */
export async function runPenstock(place: Place, ...args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [join(PROJECT, 'scripts/penstock.ts'), ...args], {
    env: envOf(place),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [exit] = (await exited) as [number | null]
  return { exit, out, err }
}

/** The command line in one process for many commands, which are run in the order they are given. */
export interface Penstock {
  run(...args: readonly string[]): Promise<Ran>
  stop(): void
}

/** As {@link runPenstock}, for tests of many commands: nearly all of a command's time is its start. */
export function startPenstock(place: Place): Penstock {
  const child = fork(join(PROJECT, 'test/support/cli-host.ts'), {
    env: envOf(place),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  let last: Promise<unknown> = Promise.resolve()
  const run = async (args: readonly string[]): Promise<Ran> => {
    const answered = Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() =>
        Promise.reject(new Error(`penstock ${args.join(' ')}: ended`)),
      ),
    ])
    child.send([...args])
    const [ran] = (await answered) as [Ran]
    return ran
  }
  return {
    run(...args) {
      const ran = last.then(() => run(args))
      last = ran.catch(() => null)
      return ran
    },
    stop: () => void child.kill(),
  }
}

/**
 * Runs `penstock` with `--json` and reads what it says.
 * @throws with its own words where it fails
 */
export async function penstock<T>(place: Place, ...args: readonly string[]): Promise<T> {
  const { exit, out, err } = await runPenstock(place, ...args, '--json')
  if (exit !== 0) throw new Error(`penstock ${args.join(' ')}: ${out}${err}`)
  return JSON.parse(out) as T
}
