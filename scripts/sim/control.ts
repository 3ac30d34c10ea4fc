/** The control port: HTTP and JSON on the loopback, for tests in other processes and for the CLI. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isObject, numberAt } from './body.ts'
import type { Fault } from './faults.ts'
import type { Sim } from './server.ts'

export interface Control {
  readonly url: string
  close(): Promise<void>
}

const answer = (response: ServerResponse, status: number, value: unknown): void => {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value))
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const parsed: unknown = JSON.parse(Buffer.concat(parts).toString() || '{}')
  if (!isObject(parsed)) throw new TypeError('the body must be a JSON object')
  return { ...parsed }
}

const KINDS: readonly Fault['kind'][] = [
  'refuse',
  'hang',
  'freeze',
  'status',
  'stream-error',
  'cut',
  'early-end',
  'empty',
  'slow',
  'abort',
  'keep-alive',
  'silence',
  'late-start',
  'close',
  'html',
  'redirect',
]

/** Fields without which a fault means nothing. */
const NEEDED: Partial<Record<Fault['kind'], string>> = {
  status: 'status',
  'stream-error': 'code',
  cut: 'afterChunks',
  'early-end': 'afterChunks',
  slow: 'factor',
  'keep-alive': 'everyMs',
  'late-start': 'ms',
  close: 'code',
}

/** Checks a fault that came as JSON. @throws TypeError naming what is wrong */
export function parseFault(body: Readonly<Record<string, unknown>>): Fault {
  const kind = KINDS.find((one) => one === body['kind'])
  if (kind === undefined) throw new TypeError(`"kind" must be one of ${KINDS.join(', ')}`)
  const needed = NEEDED[kind]
  if (needed !== undefined && numberAt(body, needed) === null) {
    throw new TypeError(`the fault "${kind}" needs the number "${needed}"`)
  }
  return { ...body, kind } as Fault
}

async function act(sim: Sim, request: IncomingMessage): Promise<readonly [number, unknown]> {
  const path = new URL(request.url ?? '/', 'http://control').pathname
  switch (`${request.method ?? 'GET'} ${path}`) {
    case 'GET /state':
      return [200, sim.state()]
    case 'PUT /fault':
      await sim.setFault(parseFault(await bodyOf(request)))
      return [200, sim.state()]
    case 'DELETE /fault':
      await sim.setFault(null)
      return [200, sim.state()]
    case 'GET /requests':
      return [200, sim.requests()]
    case 'DELETE /requests':
      sim.clearRequests()
      return [200, {}]
    case 'PUT /time-scale': {
      const scale = numberAt(await bodyOf(request), 'timeScale')
      if (scale === null || !(scale > 0))
        throw new TypeError('"timeScale" must be a number above 0')
      sim.setTimeScale(scale)
      return [200, sim.state()]
    }
    case 'PUT /options': {
      const body = await bodyOf(request)
      const profile = body['profile']
      if (profile === 'instant') sim.setProfile('instant')
      else if (isObject(profile)) sim.setProfile(profile)
      if (typeof body['keepBodies'] === 'boolean') sim.setKeepBodies(body['keepBodies'])
      if (typeof body['keepFrameTimes'] === 'boolean') {
        sim.setKeepFrameTimes(body['keepFrameTimes'])
      }
      const most = numberAt(body, 'maxNumSeqs')
      if (most !== null) sim.engine.maxNumSeqs = most
      return [200, sim.state()]
    }
    default:
      return [404, { error: 'no such control' }]
  }
}

/** Opens the control port of one simulator. @throws the error of `listen` if the port is taken */
export async function startControl(sim: Sim, port: number): Promise<Control> {
  const server = createServer((request, response) => {
    act(sim, request).then(
      ([status, value]) => answer(response, status, value),
      (error: unknown) =>
        answer(response, 400, { error: error instanceof Error ? error.message : String(error) }),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const { port: bound } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${bound}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
