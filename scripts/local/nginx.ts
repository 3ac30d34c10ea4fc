import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { startChild } from './child.ts'

const LISTEN_MS = 5_000
/** In the directory that a configuration is given: where its `pid` must point. */
const PID_FILE = 'nginx.pid'

export interface NginxOptions {
  /** The binary, as {@link findNginx} returns it. */
  readonly command: string
  /** `nginx.conf`, given the directory for its log, temporary files and `nginx.pid`. */
  readonly conf: (runDir: string) => string
  /** Further files for that directory, by name; they may hold secrets. */
  readonly files: Readonly<Record<string, string>>
  /** Where the configuration listens. */
  readonly host: string
  readonly port: number
}

export interface Nginx {
  readonly pid: number
  /** Settles when the process has ended; the text says how. */
  readonly ended: Promise<string>
  stop(): Promise<void>
}

/** Path of the nginx binary, or null: Debian puts it where only root's PATH looks. */
export async function findNginx(path: string = process.env['PATH'] ?? ''): Promise<string | null> {
  const places = [...path.split(delimiter), '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/bin']
  for (const place of places) {
    const candidate = join(place, 'nginx')
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (place !== '' && found) return candidate
  }
  return null
}

/**
 * Checks a configuration with `nginx -t`, then runs Nginx with it until stopped.
 *
 * @throws with Nginx's own words when it refuses the configuration or does not come up
 */
export async function startNginx(options: NginxOptions): Promise<Nginx> {
  // In the system's temporary folder: Nginx takes no path with unusual characters.
  const runDir = await mkdtemp(join(tmpdir(), 'penstock-nginx-'))
  try {
    return await startIn(runDir, options)
  } catch (cause) {
    await rm(runDir, { recursive: true, force: true })
    throw cause
  }
}

async function startIn(runDir: string, options: NginxOptions): Promise<Nginx> {
  const { command, host, port } = options
  for (const [name, text] of Object.entries(options.files)) {
    await writeFile(join(runDir, name), text, { mode: 0o600 })
  }
  const conf = join(runDir, 'nginx.conf')
  await writeFile(conf, options.conf(runDir))
  // Without -e Nginx complains about /var/log/nginx before it has read where its log belongs.
  const args = ['-p', runDir, '-e', join(runDir, 'error.log'), '-c', conf]
  await promisify(execFile)(command, [...args, '-t']).catch(
    (error: Error & { stderr?: string }) => {
      throw new Error(`nginx refuses ${conf}:\n${error.stderr ?? error.message}`, { cause: error })
    },
  )
  const child = await startChild({
    command,
    args: [...args, '-g', 'daemon off;'],
    stdio: ['ignore', 'ignore', 'pipe'],
    scratch: runDir,
  })
  let said = ''
  child.process.stderr?.on('data', (chunk: Buffer) => {
    said = (said + String(chunk)).slice(-2_000)
  })
  const nginx: Nginx = {
    pid: child.pid,
    ended: child.ended,
    async stop() {
      await child.stop('SIGTERM', 2_000)
      await rm(runDir, { recursive: true, force: true })
    },
  }
  const up = untilListening(host, port, join(runDir, PID_FILE), LISTEN_MS)
  const outcome = await Promise.race([up, child.ended])
  if (outcome === 'listening') return nginx
  await nginx.stop()
  throw new Error(`nginx did not come up on ${host}:${port} (${outcome})\n${said}`)
}

/**
 * Nginx writes its pid once it has its ports. That somebody accepts is not enough: another process may have
 * taken the port a moment before.
 */
async function untilListening(
  host: string,
  port: number,
  pidFile: string,
  ms: number,
): Promise<string> {
  const end = Date.now() + ms
  while (Date.now() < end) {
    const isOurs = await readFile(pidFile, 'utf8')
      .then((pid) => pid.trim() !== '')
      .catch(() => false)
    if (isOurs && (await accepts(host, port))) return 'listening'
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return `nothing listens after ${ms / 1_000} s`
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
