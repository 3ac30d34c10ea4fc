import { createRequire } from 'node:module'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { startChild } from './child.ts'
import { renderServeConfig } from './capnp.ts'
import type { WorkerConfig } from './config.ts'

export interface WorkerdOptions {
  readonly config: WorkerConfig
  /** The bundled Worker, as {@link bundleWorker} returns it. */
  readonly code: string
  /** Values for the secret bindings, by name. */
  readonly secrets: Readonly<Record<string, string>>
  readonly texts?: Readonly<Record<string, string>>
  /** Directory of the objects' storage, made if missing; null: forgotten when workerd stops. */
  readonly storage: string | null
  /** Gets each line that workerd or the Worker's console writes. */
  readonly onLog?: (line: string) => void
}

export interface Workerd {
  readonly pid: number
  /** Always 127.0.0.1. */
  readonly port: number
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
    const storage = options.storage ?? join(dir, 'state')
    await mkdir(storage, { recursive: true })
    await writeFile(join(dir, 'worker.mjs'), options.code)
    const conf = join(dir, 'config.capnp')
    await writeFile(
      conf,
      renderServeConfig({
        config: options.config,
        module: 'worker.mjs',
        address: '127.0.0.1:0',
        secrets: Object.keys(options.secrets),
        texts: options.texts ?? {},
        storage,
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
    const port = await Promise.race([listening(control), child.ended])
    if (typeof port === 'string') throw new Error(`workerd ${port}\n${lines.join('\n')}`)
    return {
      pid: child.pid,
      port,
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

/** workerd says on the control pipe which port each socket got, one JSON object a line. */
function listening(control: Readable): Promise<number> {
  return new Promise((resolve) => {
    createInterface({ input: control }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; socket?: string; port?: number }
      if (event.event === 'listen' && event.port !== undefined) resolve(event.port)
    })
  })
}
