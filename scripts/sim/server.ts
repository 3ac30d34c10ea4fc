/** A vLLM server that needs no GPU: `startSim` is the whole of it for tests, demos and benches. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { startControl, type Control } from './control.ts'
import { profileOf, type CostProfile } from './cost-model.ts'
import { Driver } from './driver.ts'
import { Engine } from './engine.ts'
import { FaultBox, type Fault } from './faults.ts'
import type { Generation } from './generation.ts'
import { HttpStats } from './http-stats.ts'
import { RequestLog, type RequestRecord } from './records.ts'
import type { ModelKind } from './endpoints.ts'
import type { Session, SimContext } from './exchange.ts'
import { currentMetrics } from './open-routes.ts'
import { connectionClosed, route } from './routes.ts'
import { acceptWebSockets, upgrades } from './upgrade.ts'

export interface SimOptions {
  /** The first served name; answers and metrics always show it. */
  readonly model: string
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free port. */
  readonly port?: number
  /** Loopback only. Default 0: a free port; null: none. */
  readonly controlPort?: number | null
  readonly apiKey?: string
  /** Tokens of prompt and answer together. Default 8192. */
  readonly maxModelLen?: number
  /** Sequences that run at once; others wait. Default 256. */
  readonly maxNumSeqs?: number
  /** KV blocks of 16 tokens. Default 16384. */
  readonly kvBlocks?: number
  readonly profile?: Partial<CostProfile> | 'instant'
  /** Simulated seconds per real second. Default 1. */
  readonly timeScale?: number
  /** Used for requests without a `seed`. Default 0. */
  readonly seed?: number
  /** More names the model answers to. */
  readonly servedModelNames?: readonly string[]
  /** LoRA adapters (`--lora-modules`): requests may name one in place of the model. */
  readonly loraModules?: readonly string[]
  /** What the model can do; other endpoints are 404, as with vLLM. Default `generate`. */
  readonly kind?: ModelKind
  /** The model reasons unless told not to. Default false. */
  readonly reasoning?: boolean
  /** Usage says how many prompt tokens were cached (`--enable-prompt-tokens-details`). Default false. */
  readonly promptTokensDetails?: boolean
  /** Real milliseconds of silence after which chat and completion streams say a comment. Default: never. */
  readonly sseKeepAliveMs?: number
  /** Keep parsed bodies in the request log. Default true. */
  readonly keepBodies?: boolean
  /** Keep the time of every frame in the request log. Default: as `keepBodies`. */
  readonly keepFrameTimes?: boolean
}

export interface SimState {
  readonly version: string
  readonly model: string
  readonly running: number
  readonly waiting: number
  /** Inference requests not yet answered to the end, open WebSockets among them. */
  readonly inFlight: number
  readonly kvUsage: number
  readonly promptTokens: number
  readonly generationTokens: number
  readonly prefixQueries: number
  readonly prefixHits: number
  readonly finished: Readonly<Record<string, number>>
  /** Requests seen since the start, of any kind. */
  readonly requests: number
  readonly timeScale: number
  readonly fault: Fault | null
}

export interface Sim {
  /** `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string
  readonly port: number
  readonly controlUrl: string | null
  readonly engine: Engine
  /** Puts a fault in force, or with null takes it away. Resolves when it is. */
  setFault(fault: Fault | null): Promise<void>
  /** Simulated seconds per real second, from now on. */
  setTimeScale(scale: number): void
  /** Changes the costs named, from now on; the others stay as they are. */
  setProfile(profile: Partial<CostProfile> | 'instant'): void
  /** Whether the request log keeps parsed bodies, from now on. */
  setKeepBodies(keep: boolean): void
  /** Whether the request log keeps the time of every frame, from now on. */
  setKeepFrameTimes(keep: boolean): void
  /** What has been asked, oldest first: the last 50,000. */
  requests(): readonly RequestRecord[]
  clearRequests(): void
  state(): SimState
  /** Ends what is under way with finish_reason "abort", as a server does that gets SIGTERM. */
  abortAll(): void
  /** Closes every connection and both ports. */
  close(): Promise<void>
}

/** The release whose answers this imitates. */
export const VERSION = '0.32.0'

/** uvicorn closes a connection that idles this long. */
const KEEP_ALIVE_MS = 5_000

const listen = (server: Server, port: number, host: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })

/**
 * Starts one simulated instance.
 * @throws the EADDRINUSE error of `listen` if the port is taken
 */
export async function startSim(options: SimOptions): Promise<Sim> {
  const host = options.host ?? '127.0.0.1'
  const maxModelLen = options.maxModelLen ?? 8192
  const engine = new Engine({
    profile: profileOf(options.profile),
    maxNumSeqs: options.maxNumSeqs ?? 256,
    kvBlocks: options.kvBlocks ?? 16_384,
    maxModelLen,
  })
  const driver = new Driver(engine, options.timeScale ?? 1, () => performance.now())
  const faults = new FaultBox()
  const log = new RequestLog()
  log.keepBodies = options.keepBodies ?? true
  log.keepFrameTimes = options.keepFrameTimes ?? log.keepBodies
  const active = new Set<Generation>()
  const sessions = new Set<Session>()
  let seen = 0

  const context: SimContext = {
    names: [options.model, ...(options.servedModelNames ?? [])],
    adapters: options.loraModules ?? [],
    apiKey: options.apiKey ?? null,
    maxModelLen,
    seed: options.seed ?? 0,
    reasoning: options.reasoning ?? false,
    kind: options.kind ?? 'generate',
    promptTokensDetails: options.promptTokensDetails ?? false,
    sseKeepAliveMs: options.sseKeepAliveMs ?? null,
    version: VERSION,
    startedAt: Date.now(),
    driver,
    faults,
    log,
    active,
    sessions,
    http: new HttpStats(),
    frozenPage: null,
    lastOn: new WeakMap(),
  }

  const server = createServer({ shouldUpgradeCallback: upgrades }, (request, response) => {
    // A connection that was busy when the listener closed would carry one request more.
    if (!server.listening) return void request.socket.destroy()
    seen++
    route(context, request, response)
  })
  acceptWebSockets(context, server)
  server.on('upgrade', () => seen++)
  server.keepAliveTimeout = KEEP_ALIVE_MS
  // Node would wait a second longer than it says.
  server.keepAliveTimeoutBuffer = 0
  // A long prompt or a slow client is not this server's business.
  server.requestTimeout = 0
  server.headersTimeout = 0
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    socket.setNoDelay(true)
    sockets.add(socket)
    socket.on('close', () => {
      sockets.delete(socket)
      connectionClosed(context, socket)
    })
    socket.on('error', () => socket.destroy())
  })
  await listen(server, options.port ?? 0, host)
  const { port } = server.address() as AddressInfo

  const setFault = async (fault: Fault | null): Promise<void> => {
    faults.set(fault)
    engine.slowness = fault?.kind === 'slow' ? fault.factor : 1
    const freezes = fault?.kind === 'freeze'
    context.frozenPage = freezes ? currentMetrics(context) : null
    driver.setFrozen(freezes)
    driver.kick()
    if (fault?.kind === 'abort') for (const one of active) one.shutDown()
    for (const session of sessions) session.meet(fault)
    if (fault?.kind === 'refuse' && server.listening) {
      server.close()
      server.closeIdleConnections()
    }
    if (fault?.kind !== 'refuse' && !server.listening) await listen(server, port, host)
  }

  let control: Control | null = null
  const sim: Sim = {
    url: `http://${host}:${port}`,
    port,
    get controlUrl() {
      return control?.url ?? null
    },
    engine,
    setFault,
    setTimeScale: (scale) => driver.setTimeScale(scale),
    setProfile(profile) {
      engine.profile =
        profile === 'instant' ? profileOf(profile) : { ...engine.profile, ...profile }
    },
    setKeepBodies(keep) {
      log.keepBodies = keep
    },
    setKeepFrameTimes(keep) {
      log.keepFrameTimes = keep
    },
    requests: () => log.all,
    clearRequests: () => log.clear(),
    state: () => ({
      version: VERSION,
      model: options.model,
      running: engine.running,
      waiting: engine.waiting,
      inFlight: active.size + sessions.size,
      kvUsage: engine.kvUsageAt(driver.now()),
      promptTokens: engine.stats.promptTokens,
      generationTokens: engine.stats.generationTokens,
      prefixQueries: engine.stats.prefixQueries,
      prefixHits: engine.stats.prefixHits,
      finished: { ...engine.stats.finished },
      requests: seen,
      timeScale: driver.timeScale,
      fault: faults.current,
    }),
    abortAll() {
      for (const one of active) one.shutDown()
      for (const session of sessions) session.shutDown()
    },
    async close() {
      driver.stop()
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => {
        if (server.listening) server.close(() => resolve())
        else resolve()
      })
      await control?.close()
    },
  }
  if (options.controlPort !== null) {
    try {
      control = await startControl(sim, options.controlPort ?? 0)
    } catch (error) {
      await sim.close()
      throw error
    }
  }
  return sim
}
