import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { EXIT, Failure } from '../cli/failure.ts'

/** What a local run keeps from one start to the next, beside the objects' storage. */
export interface KeptSecrets {
  readonly keySigningSecret: string
  readonly adminToken: string
  /** The tenant key of the last run; null before the first. */
  readonly apiKey: string | null
}

export interface LocalInstance {
  readonly id: string
  readonly pool: string
  readonly url: string
  /** Base URL of a simulator's control port. */
  readonly control?: string
}

/** `local.json`: what a tool needs to talk to this run. */
export interface LocalRun {
  readonly url: string
  readonly apiKey: string
  readonly adminToken: string
  readonly instances: readonly LocalInstance[]
}

/**
 * The directory of a local run. Only its owner may read it: it holds the keys.
 * Its methods are synchronous so that they also work in a handler of `exit`.
 */
export interface DataDir {
  readonly state: string
  readonly log: string
  secrets(): KeptSecrets
  saveSecrets(secrets: KeptSecrets): void
  writeLocal(run: LocalRun): void
  /** Removes `local.json` and lets the next run have the directory. Idempotent. */
  release(): void
}

/**
 * Makes the directory if it is missing and takes it for this process.
 *
 * @param path     absolute path
 * @param isOurs   whether a process id belongs to a running local run
 * @throws {Failure} when another run has it, or it cannot be had
 */
export function openDataDir(path: string, isOurs: (pid: number) => boolean = isLocalRun): DataDir {
  const lock = join(path, 'lock')
  const local = join(path, 'local.json')
  try {
    makeDir(path)
    chmodSync(path, 0o700)
    takeLock(path, lock, isOurs)
    rmSync(local, { force: true }) // whatever a run that was killed has left
  } catch (cause) {
    if (cause instanceof Failure) throw cause
    throw new Failure(EXIT.invalid, `cannot keep state in ${path}: ${(cause as Error).message}`)
  }
  const secretsFile = join(path, 'secrets.json')
  let held = true
  return {
    state: join(path, 'state'),
    log: join(path, 'worker.log'),
    secrets: () => readSecrets(secretsFile) ?? freshSecrets(),
    saveSecrets: (secrets) => writeWhole(secretsFile, secrets),
    writeLocal: (run) => writeWhole(local, run),
    release() {
      if (!held) return
      held = false
      rmSync(local, { force: true })
      rmSync(lock, { force: true })
    },
  }
}

/** Step by step: Node's own `recursive` goes on for ever below /proc, where nothing can be made. */
function makeDir(path: string): void {
  const there = statSync(path, { throwIfNoEntry: false })
  if (there?.isDirectory()) return
  if (there) throw new Error(`${path} is not a directory`)
  makeDir(dirname(path))
  mkdirSync(path, { mode: 0o700 })
}

function takeLock(path: string, lock: string, isOurs: (pid: number) => boolean): void {
  const take = () => writeFileSync(lock, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
  try {
    take()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    const holder = Number(readFileSync(lock, 'utf8'))
    if (holder !== process.pid && isOurs(holder)) {
      throw new Failure(
        EXIT.conflict,
        `${path} is in use by another local run (process ${holder}): stop it, or choose another directory with --data`,
      )
    }
    rmSync(lock, { force: true })
    take()
  }
}

/** A process id alone proves little: after a reboot, or in a container, it is soon somebody else's. */
function isLocalRun(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('start.ts')
  } catch {
    return true // no /proc here: believe the lock
  }
}

const freshSecrets = (): KeptSecrets => ({
  keySigningSecret: randomBytes(32).toString('base64url'),
  adminToken: randomBytes(24).toString('base64url'),
  apiKey: null,
})

function readSecrets(file: string): KeptSecrets | null {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  const { keySigningSecret, adminToken, apiKey } = parseObject(text)
  if (typeof keySigningSecret !== 'string' || typeof adminToken !== 'string') return null
  return { keySigningSecret, adminToken, apiKey: typeof apiKey === 'string' ? apiKey : null }
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>
  } catch {
    return {} // half written by a run that was killed: new secrets are made
  }
}

/** Readers see the old file or the new one, never half of it. */
function writeWhole(file: string, content: object): void {
  const next = `${file}.${process.pid}.tmp`
  writeFileSync(next, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(next, file)
}
