/** `penstock smoke` where answers do not come, or do not end: it says so, and ends itself. */
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import { Command } from 'commander'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { EXIT, Failure } from '../../scripts/cli/failure.ts'
import { abortInPrefill } from '../../scripts/cli/smoke-aborts.ts'
import { runChecks, type Report } from '../../scripts/cli/smoke-checks.ts'
import {
  sender,
  TooSlow,
  type Answer,
  type Bounds,
  type Send,
} from '../../scripts/cli/smoke-client.ts'
import { longStream, silence } from '../../scripts/cli/smoke-long.ts'
import type { Smoke } from '../../scripts/cli/smoke-run.ts'
import { addSmokeCommand } from '../../scripts/cli/smoke.ts'

const BOUNDS: Bounds = { router: 200, model: 300 }

type Answering = (path: string, response: http.ServerResponse, key: string | undefined) => void

/** A server that takes every connection; what is not answered hangs. */
async function serve(answering: Answering): Promise<string> {
  const server = http.createServer(({ url = '', headers }, response) =>
    answering(url, response, headers.authorization),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const json = (response: http.ServerResponse, value: object): void => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(value))
}

/** All is well, but the model says nothing. */
const mute: Answering = (path, response, key) => {
  if (path === '/v1/models' && key !== 'Bearer key') {
    response.statusCode = 401
    return json(response, { error: { code: 'invalid_api_key', message: 'no' } })
  }
  if (path === '/healthz') json(response, { status: 'ok' })
  if (path === '/v1/models') json(response, { data: [{ id: 'public' }] })
  if (path === '/v1/usage') json(response, { used: { running: 0 } })
}

/** What the checks wait for by themselves goes by at once; an answer's bound is real. */
const checksAt = (url: string): Promise<Report> => {
  let clock = 0
  const plan = {
    send: sender(url, () => performance.now(), BOUNDS),
    key: 'key',
    model: null,
    quick: true,
    now: () => clock,
    sleep: async (ms: number) => void (clock += ms),
    random: Math.random,
    inFlight: null,
  }
  return runChecks(plan, { begins: () => undefined, ends: () => undefined })
}

const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })

const smokeOf = (send: Send): Smoke => ({
  send,
  key: 'key',
  now: () => performance.now(),
  sleep: pause,
  random: Math.random,
  model: { id: 'public', maxModelLen: 216 },
  spent: { prompt: 0, completion: 0 },
  inFlight: null,
})

const failures = ({ checks }: Report) =>
  checks.flatMap(({ name, verdict }) =>
    verdict.result === 'failed' ? `${name}: ${verdict.why}` : [],
  )

describe('the command', () => {
  const out: string[] = []
  let before: typeof process.exitCode
  beforeEach(() => {
    out.length = 0
    before = process.exitCode
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0)
  })
  afterEach(() => {
    process.exitCode = before
  })
  const smoke = async (url: string): Promise<void> => {
    const program = new Command().exitOverride()
    addSmokeCommand(program, BOUNDS)
    await program.parseAsync(['smoke', '--url', url, '--key', 'k', '--quick'], { from: 'user' })
  }

  it('ends with 5 where the router takes the connection and says nothing', async () => {
    const url = await serve(() => undefined)
    const cause = await smoke(url).catch((it: unknown) => it)
    expect(cause).toBeInstanceOf(Failure)
    expect(cause).toMatchObject({
      exit: EXIT.unreachable,
      message: `cannot reach ${url}: no answer within 0.2 s`,
    })
  })

  it('ends with 1 where only its health answers, and tells each check that had no answer', async () => {
    await smoke(
      await serve((path, response) => {
        if (path === '/healthz') json(response, { status: 'ok' })
      }),
    )
    expect(process.exitCode).toBe(EXIT.invalid)
    const said = out.join('')
    expect(said).toMatch(/^ok +health/m)
    expect(said).toMatch(/^failed +bad key +no answer within 0\.2 s$/m)
    expect(said).toMatch(/^failed +user agent: curl +no answer within 0\.2 s$/m)
    expect(said).toMatch(/^1 ok, 10 failed, 6 not shown$/m)
  })
})

describe('a check', () => {
  it('fails where the model says nothing, after the longer bound', async () => {
    expect(failures(await checksAt(await serve(mute)))).toEqual(['spacing: no answer within 0.3 s'])
  })

  it('fails where an answer began and does not end, health too', async () => {
    const url = await serve((_, response) => void response.write('{'))
    const report = await checksAt(url)
    expect(failures(report).slice(0, 2)).toEqual([
      'health: the answer began, but was not whole within 0.2 s',
      'bad key: the answer began, but was not whole within 0.2 s',
    ])
  })

  it('leaves what it asked where the count of requests hangs', async () => {
    const left = vi.fn<() => void>()
    const slow = new TooSlow(200, false, false)
    let looks = 0
    const send: Send = ({ path }) => {
      const asks = path !== '/v1/usage'
      const text = JSON.stringify({ used: { running: 0 } })
      const counts = { status: 200, headers: {}, text, pieces: [], complete: true, ms: 0 }
      const ended = new Promise<Answer>((resolve, reject) => {
        if (asks) return // goes on until it is left
        if (looks++ === 0) resolve(counts)
        else reject(slow)
      })
      return {
        pieces: [],
        first: Promise.resolve(null),
        ended,
        leave: asks ? left : () => undefined,
      }
    }
    await expect(abortInPrefill(smokeOf(send))).rejects.toBe(slow)
    expect(left).toHaveBeenCalled()
  })
})

describe('an answer that takes its time', () => {
  const FRAME = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
  const END = 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
  /** Sixteen tokens are asked for, which at this rate are expected to take 400 ms. */
  const RATE = 40
  const at = async (answering: Answering): Promise<Smoke> =>
    smokeOf(sender(await serve(answering), () => performance.now(), BOUNDS))

  it('has the time that is expected of it before its bound begins', async () => {
    const late = await at((_, response) => void setTimeout(() => json(response, {}), 450))
    expect((await silence(late, RATE)).result).toBe('not shown')
    const never = await at(() => undefined)
    await expect(silence(never, RATE)).rejects.toThrow('no answer within 0.7 s')
  })

  it('is not cut while frames come, however long it lasts', async () => {
    const smoke = await at((_, response) => {
      let sent = 0
      const timer = setInterval(() => {
        response.write(FRAME)
        if (++sent < 12) return
        clearInterval(timer)
        response.end(END)
      }, 50)
    })
    expect((await longStream(smoke, RATE)).why).toMatch(/whole after/)
  })

  it('fails where its frames stop, and what came is counted as spent', async () => {
    const smoke = await at((_, response) => void response.write(FRAME.repeat(3)))
    await expect(longStream(smoke, RATE)).rejects.toThrow(
      'the answer stopped: nothing more came for 0.3 s',
    )
    expect(smoke.spent.completion).toBe(3)
  })
})
