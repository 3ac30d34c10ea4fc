/** `npm start`: the demo, or with `--fleet FILE` the router in front of one's own instances. */
import { createWriteStream } from 'node:fs'
import { resolve } from 'node:path'
import { Failure } from '../cli/failure.ts'
import { ownToken } from '../cli/token.ts'
import { adminOf, untilReady } from './admin.ts'
import { openDataDir, type DataDir } from './data-dir.ts'
import { startDemo } from './demo.ts'
import { DEFAULT_DATA, parseFlags, USAGE, type Flags } from './flags.ts'
import { readOwnFleet } from './own-fleet.ts'
import { firstFreePort, isFree } from './ports.ts'
import { startRouter } from './router.ts'
import { screenOf, welcome } from './screen.ts'
import { tenantKey } from './tenant-key.ts'

const READY_MS = 30_000
const ANY_PORT = 0
/** npm passes a Ctrl-C on that we have had from the terminal already: that one is no second wish. */
const ECHO_MS = 1_000

const screen = screenOf(
  (line) => console.log(line),
  (line) => console.error(line),
)

/** Brings everything up; resolves when something of it has ended by itself, to what that was. */
async function run(flags: Flags, dir: DataDir, stack: AsyncDisposableStack): Promise<string> {
  const ownAdminToken = ownToken(process.env)
  await isFree(flags.host, ANY_PORT) // before anything is up: it throws where the address is not ours
  const demo = flags.fleet === null
  const running =
    flags.fleet === null
      ? await startDemo(stack, screen)
      : readOwnFleet(flags.fleet, process.env, process.cwd())

  const kept = dir.secrets()
  const adminToken = ownAdminToken ?? kept.adminToken
  dir.saveSecrets(kept)
  const log = createWriteStream(dir.log, { mode: 0o600 })
  stack.defer(() => void log.end())
  const port = await firstFreePort({ host: flags.host, from: flags.port })
  if (port !== flags.port && flags.port !== 0)
    screen.note(`port ${flags.port} is taken: the router gets ${port}`)
  const router = await startRouter({
    host: flags.host,
    port,
    storage: dir.state,
    secrets: {
      ...running.secrets,
      ADMIN_TOKEN: adminToken,
      KEY_SIGNING_SECRET: kept.keySigningSecret,
    },
    onLog: (line) => log.write(`${line}\n`),
  })
  stack.defer(() => router.stop())
  screen.done(`router on ${router.url}`)

  const admin = adminOf(router.url, adminToken)
  await admin.applyFleet(running.yaml)
  const save = (apiKey: string) => dir.saveSecrets({ ...kept, apiKey })
  const { apiKey, trouble } = await tenantKey(admin, kept.apiKey, save)
  if (trouble !== null) screen.note(trouble)
  const missing = await untilReady(() => admin.pools(), READY_MS)
  for (const pool of missing) screen.note(`no instance is ready in ${pool}`)
  if (missing.length === 0) screen.done('every pool has a ready instance')

  dir.writeLocal({ url: router.url, apiKey, adminToken, instances: running.instances })
  const [model = ''] = Object.keys(running.fleet.models)
  // In the default directory the command line finds the run, and its token, by itself.
  const found = flags.data === DEFAULT_DATA
  const environment = found ? '' : `PENSTOCK_URL=${router.url} PENSTOCK_ADMIN_TOKEN=${adminToken} `
  screen.text(welcome({ url: router.url, apiKey, environment, model }))
  if (demo) screen.text('These instances are simulated: --fleet FILE puts your own behind it.')
  return Promise.race([router.ended.then((how) => `workerd ${how}`), running.ended])
}

/** Resolves at the first Ctrl-C or SIGTERM; a second one, later, ends the process where it stands. */
function interrupted(): Promise<null> {
  return new Promise((resolve) => {
    let first = 0
    const onSignal = () => {
      if (first === 0) {
        first = Date.now()
        resolve(null)
      } else if (Date.now() - first > ECHO_MS) process.exit(130)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  })
}

/** @returns the exit code */
async function main(argv: readonly string[]): Promise<number> {
  const flags = parseFlags(argv)
  if ('problem' in flags) {
    screen.fail(`${flags.problem}\n\n${USAGE}`)
    return 1
  }
  if (flags.help) {
    screen.text(USAGE)
    return 0
  }
  const stopped = interrupted()
  const stack = new AsyncDisposableStack()
  try {
    const dir = openDataDir(resolve(flags.data))
    process.on('exit', () => dir.release())
    const ended = await Promise.race([run(flags, dir, stack), stopped])
    if (ended === null) {
      screen.text('\nStopping.')
      return 0
    }
    screen.fail(`${ended}; its last words are in ${dir.log}`)
    return 1
  } catch (error) {
    const isExpected = error instanceof Failure
    screen.fail(isExpected ? error.message : String(error instanceof Error ? error.stack : error))
    return 1
  } finally {
    await stack.disposeAsync()
  }
}

// Whatever may still hold the event loop (a start that was interrupted half way) ends here: children are
// killed, and the data directory is given back, by their handlers of `exit`.
process.exit(await main(process.argv.slice(2)))
