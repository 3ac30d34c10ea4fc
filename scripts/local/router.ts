import { bundleWorker } from './bundle.ts'
import { readWorkerConfig, type WorkerConfig } from './config.ts'
import { startFront, type Front } from './front.ts'
import { startWorkerd } from './workerd.ts'

export interface RouterOptions {
  readonly host: string
  /** 0 for a port of the system's choice. */
  readonly port: number
  /** Values of the Worker's secrets, by binding name. */
  readonly secrets: Readonly<Record<string, string>>
  /** Directory of the objects' storage; null: forgotten at the end. */
  readonly storage: string | null
  /** Bundled Worker to run instead of the project's own. */
  readonly code?: string
  /** That of all services but the first, where theirs is another release. */
  readonly entryCode?: string
  /** What `wrangler.toml` says, where it has been read already. */
  readonly config?: WorkerConfig
  readonly texts?: Readonly<Record<string, string>>
  /** How many services of the Worker share these objects, each behind a front of its own. Default 1. */
  readonly services?: number
  /** Gets each line that workerd or the Worker's console writes. */
  readonly onLog?: (line: string) => void
}

export interface Router {
  /** Base URL without a slash at the end. */
  readonly url: string
  /** Of all services, the first one's too; ports of the others are the system's choice. */
  readonly urls: readonly string[]
  /** Port of workerd itself, without the front: for measurements. */
  readonly workerPort: number
  /** Process id of workerd: for measurements. */
  readonly workerPid: number
  /** Settles when workerd has ended; the text says how. */
  readonly ended: Promise<string>
  stop(): Promise<void>
}

/** Bundles the project's Worker as `wrangler.toml` describes it. */
export const bundleRouter = async (): Promise<string> =>
  bundleWorker((await readWorkerConfig()).main)

/** Runs the Worker with its objects in one workerd, behind the front. */
export async function startRouter(options: RouterOptions): Promise<Router> {
  const { secrets, storage, texts, entryCode, services, onLog } = options
  const workerd = await startWorkerd({
    config: options.config ?? (await readWorkerConfig()),
    code: options.code ?? (await bundleRouter()),
    secrets,
    storage,
    ...(texts && { texts }),
    ...(entryCode !== undefined && { entryCode }),
    ...(services && { services }),
    ...(onLog && { onLog }),
  })
  const fronts: Front[] = []
  const stop = async (): Promise<void> => {
    for (const front of fronts) await front.stop()
    await workerd.stop()
  }
  try {
    const { host } = options
    for (const workerPort of workerd.ports) {
      const port = fronts.length === 0 ? options.port : 0
      fronts.push(await startFront({ workerPort, host, port }))
    }
    const urls = fronts.map(({ port }) => `http://${urlHost(host)}:${port}`)
    return {
      url: urls[0] ?? '',
      urls,
      workerPort: workerd.port,
      workerPid: workerd.pid,
      ended: workerd.ended,
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** How to reach a listening address from this machine. */
const urlHost = (host: string): string => {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}
