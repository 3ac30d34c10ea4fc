import { createRequire } from 'node:module'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { startChild } from './child.ts'
import { renderServeConfig, serviceName } from './capnp.ts'
import type { WorkerConfig } from './config.ts'

export interface WorkerdOptions {
  readonly config: WorkerConfig
  /** The bundled Worker, as {@link bundleWorker} returns it. */
  readonly code: string
  /** Of all services but the first, where theirs is another release in front of the first one's objects. */
  readonly entryCode?: string
  /** Values for the secret bindings, by name. */
  readonly secrets: Readonly<Record<string, string>>
  readonly texts?: Readonly<Record<string, string>>
  /** Directory of the objects' storage, made if missing; null: forgotten when workerd stops. */
  readonly storage: string | null
  /** How many services of the Worker share these objects, see {@link renderServeConfig}. Default 1. */
  readonly services?: number
  /** Gets each line that workerd or the Worker's console writes. */
  readonly onLog?: (line: string) => void
}

export interface Workerd {
  readonly pid: number
  /** Always on 127.0.0.1; of the first service. */
  readonly port: number
  /** Of all services, the first one's too. */
  readonly ports: readonly number[]
  /** Settles when the process has ended; the text says how. */
  readonly ended: Promise<string>
  stop(): Promise<void>
}

// The package has no types; its default export is the path of the binary for this machine.
const { default: WORKERD } = createRequire(import.meta.url)('workerd') as { default: string }

/** Advice about flags that newer dates imply: true of the deployed Worker as well, and no error. */
const isAdvice = (line: string) => line.includes('does not need to be specified anymore')

/**
 * Runs a Worker and its objects in one workerd process, on a loopback port of the system's choice.
 *
 * @throws with workerd's own words when it does not come up
 */
export async function startWorkerd(options: WorkerdOptions): Promise<Workerd> {
  const dir = await mkdtemp(join(tmpdir(), 'penstock-workerd-'))
  const clean = () => rm(dir, { recursive: true, force: true })
  try {
    const { services = 1 } = options
    const storage = options.storage ?? join(dir, 'state')
    await mkdir(storage, { recursive: true })
    const { entryCode } = options
    await writeFile(join(dir, 'worker.mjs'), options.code)
    if (entryCode !== undefined) await writeFile(join(dir, 'entry.mjs'), entryCode)
    const conf = join(dir, 'config.capnp')
    await writeFile(
      conf,
      renderServeConfig({
        config: options.config,
        module: 'worker.mjs',
        ...(entryCode !== undefined && { entryModule: 'entry.mjs' }),
        address: '127.0.0.1:0',
        secrets: Object.keys(options.secrets),
        texts: options.texts ?? {},
        storage,
        services,
      }),
    )
    const child = await startChild({
      command: WORKERD,
      args: ['serve', '--control-fd=3', conf],
      // A whitelist: the Worker's process needs nothing else of ours.
      env: { PATH: process.env['PATH'], TZ: 'UTC', ...options.secrets },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      scratch: dir,
    })
    const lines: string[] = []
    for (const stream of [child.process.stdout, child.process.stderr]) {
      if (stream) watchLines(stream, lines, options.onLog)
    }
    const control = child.process.stdio[3] as Readable
    const ports = await Promise.race([listening(control, services), child.ended])
    const [port] = ports
    if (typeof ports === 'string' || typeof port !== 'number')
      throw new Error(`workerd ${String(ports)}\n${lines.join('\n')}`)
    return {
      pid: child.pid,
      port,
      ports,
      ended: child.ended,
      async stop() {
        await child.stop('SIGTERM', 2_000)
        await clean()
      },
    }
  } catch (cause) {
    await clean()
    throw cause
  }
}

function watchLines(stream: Readable, startup: string[], onLog?: (line: string) => void): void {
  createInterface({ input: stream }).on('line', (line) => {
    if (isAdvice(line)) return
    if (startup.length < 50) startup.push(line)
    onLog?.(line)
  })
}

/**
 * workerd says on the control pipe which port each socket got, one JSON object a line.
 * @param count of sockets
 * @returns their ports, in the order of the configuration
 */
function listening(control: Readable, count: number): Promise<readonly number[]> {
  const ports = new Map<string, number>()
  return new Promise((resolve) => {
    createInterface({ input: control }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; socket?: string; port?: number }
      if (event.event !== 'listen' || event.socket === undefined || event.port === undefined) return
      ports.set(event.socket, event.port)
      const known = Array.from({ length: count }, (_, i) => ports.get(serviceName(i)) ?? 0)
      if (ports.size === count) resolve(known)
    })
  })
}
