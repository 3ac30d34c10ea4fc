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

/** What a command finds around it, beside `PATH`. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string>>
  /** Its working directory; default: the test's own. */
  readonly cwd?: string
}

/** What every answer of a router has in its `x-request-id`, for what plays one. */
export const REQUEST_ID = `req_${'0'.repeat(32)}`

/** The environment of a command to the router at a place. */
export const envOf = ({ url, adminToken }: Place) => ({
  PENSTOCK_URL: url,
  PENSTOCK_ADMIN_TOKEN: adminToken,
})
const whole = (env: Surroundings['env']): Record<string, string> => ({
  PATH: process.env['PATH'] ?? '',
  NODE_COMPILE_CACHE: COMPILED,
  ...env,
})

/** Runs `penstock` in a process of its own with nobody at the terminal, whatever comes of it. */
export async function spawnPenstock(
  args: readonly string[],
  { env, cwd }: Surroundings,
): Promise<Ran> {
  const child = spawn(process.execPath, [join(PROJECT, 'scripts/penstock.ts'), ...args], {
    env: whole(env),
    ...(cwd !== undefined && { cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [exit] = (await exited) as [number | null]
  return { exit, out, err }
}

/** {@link spawnPenstock} for the router at a place. */
export const runPenstock = (place: Place, ...args: readonly string[]): Promise<Ran> =>
  spawnPenstock(args, { env: envOf(place) })

/** One process for many commands, which are run in the order they are given: nearly all of a command's time is its start. */
export interface PenstockHost {
  run(args: readonly string[], env: Surroundings['env']): Promise<Ran>
  stop(): void
}

/** @param cwd working directory of all commands; default: the test's own */
export function hostPenstock(cwd?: string): PenstockHost {
  const child = fork(join(PROJECT, 'test/support/cli-host.ts'), {
    env: whole({}),
    ...(cwd !== undefined && { cwd }),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit').then(() => null)
  let last: Promise<unknown> = Promise.resolve()
  const runNow = async (args: readonly string[], env: Surroundings['env']): Promise<Ran> => {
    const answered = once(child, 'message') as Promise<[Ran]>
    child.send({ args, env: whole(env) })
    const answer = await Promise.race([answered, ended])
    if (answer === null) throw new Error(`penstock ${args.join(' ')}: ended`)
    return answer[0]
  }
  return {
    run(args, env) {
      const ran = last.then(() => runNow(args, env))
      last = ran.catch(() => null)
      return ran
    },
    stop: () => void child.kill(),
  }
}

/** The command line in one process for many commands to one router. */
export interface Penstock {
  run(...args: readonly string[]): Promise<Ran>
  stop(): void
}

/** As {@link runPenstock}, for tests of many commands. */
export function startPenstock(place: Place): Penstock {
  const host = hostPenstock()
  return { run: (...args) => host.run(args, envOf(place)), stop: () => host.stop() }
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
