/**
 * Five hundred streams at once for a minute, through Nginx and the Worker: each arrives token by token
 * as the model said it, in the model's own rhythm, and the router's memory does not grow with what
 * has gone by. Once as the runtime carries them by itself, once with a name that the site's Nginx
 * changes in every frame, and once with a frame that the Worker must look for and take out.
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { simScript } from '../../scripts/sim/script.ts'
import { eventsOf, keyOf } from '../support/e2e-api.ts'
import { sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const STREAMS = 500
const SECONDS = Number(process.env['LOAD_SECONDS'] ?? 60)
const TOKEN_MS = 300
/** Several engines, so that not all streams get their next token in the same moment. */
const ENGINES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
const MODEL = 'load'
const ALIAS = 'load-by-another-name'
/**
 * Gaps between two frames may be longer than the engine's own by this, at p99. Edited frames leave
 * garbage behind, and in a local workerd all streams share one isolate, whose collector stops it.
 */
const WAYS = [
  { way: 'natively', model: MODEL, seconds: SECONDS, gapMs: 25, more: {} },
  { way: 'by an alias', model: ALIAS, seconds: SECONDS / 2, gapMs: 25, more: {} },
  // Who asks for ids gets them, and so the usage that the router asks for has a frame of its own.
  {
    way: 'edited',
    model: MODEL,
    seconds: SECONDS / 2,
    gapMs: 100,
    more: { return_token_ids: true },
  },
]

let stack: Stack
const agent = new Agent({ keepAlive: true, maxSockets: STREAMS })
beforeAll(async () => {
  const options = {
    keepBodies: false,
    keepFrameTimes: true,
    profile: { ttftBaseMs: 50, itlBaseMs: TOKEN_MS },
  }
  stack = await startStack({
    viaNginx: true,
    sims: ENGINES.map((id) => ({ id, pool: MODEL, slots: STREAMS, options })),
    fleet: { models: { [MODEL]: { aliases: [ALIAS], arms: [{ pool: MODEL }] } } },
  })
})
afterAll(async () => {
  agent.destroy()
  await stack?.stop()
})

interface Seen {
  readonly status: number
  readonly text: string
  /** When each read with data came, in milliseconds. */
  readonly times: readonly number[]
  /** Reads with more than one frame: the hops held one back. */
  readonly merged: number
}

function stream(i: number, body: object): Promise<Seen> {
  const text = JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const sent = request(
      `${stack.url}/v1/chat/completions`,
      {
        method: 'POST',
        agent,
        headers: {
          ...keyOf(stack),
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(text),
        },
      },
      (response) => {
        const pieces: Buffer[] = []
        const times: number[] = []
        let merged = 0
        response.on('data', (piece: Buffer) => {
          pieces.push(piece)
          times.push(performance.now())
          if (piece.indexOf('\n\n') !== piece.lastIndexOf('\n\n')) merged++
        })
        response.on('error', (error) => reject(new Error(`stream ${i}`, { cause: error })))
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: Buffer.concat(pieces).toString(),
            times,
            merged,
          }),
        )
      },
    )
    sent.on('error', reject)
    sent.end(text)
  })
}

const percentile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN

const gapsOf = (times: readonly number[]): number[] =>
  times.slice(1).map((at, i) => at - (times[i] ?? at))

/** Resident memory of a process, in MiB. */
function residentMib(pid: number): number {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) / 1024
}

it.each(WAYS)(
  'carries every token of every stream $way, in the rhythm of the engine, at a constant cost',
  // A shared machine has bad minutes; a good one shows what the router does, none would not.
  { retry: 2 },
  async ({ way, model: asked, seconds: lasting, gapMs, more }) => {
    for (const sim of Object.values(stack.sims)) sim.clearRequests()
    const tokens = Math.ceil((lasting * 1_000) / TOKEN_MS)
    const bodyOf = (i: number) => ({
      model: asked,
      stream: true,
      seed: i,
      max_tokens: tokens,
      messages: [{ role: 'user', content: `stream ${i}` }],
      ...more,
    })
    const memory: number[] = []
    let over = false
    const sampling = (async () => {
      while (!over) {
        memory.push(residentMib(stack.workerPid))
        await sleep(500)
      }
    })()

    const startedAt = performance.now()
    const seen = await Promise.all(Array.from({ length: STREAMS }, (_, i) => stream(i, bodyOf(i))))
    over = true
    await sampling
    const seconds = (performance.now() - startedAt) / 1_000

    for (const [i, { status, text }] of seen.entries()) {
      if (status !== 200) throw new Error(`stream ${i}: ${status} ${text.slice(0, 300)}`)
      const events = eventsOf(text)
      expect(events.at(-1)).toBe('[DONE]')
      const chunks = events.slice(0, -1).map((data) => JSON.parse(data) as Chunk)
      const said = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? ''))
      const script = simScript(bodyOf(i))[0]?.tokens ?? []
      expect(said.join('')).toBe(script.map(({ delta }) => delta).join(''))
      expect(chunks.every(({ model }) => model === bodyOf(i).model)).toBe(true)
      expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('length')
    }

    const records = Object.values(stack.sims).flatMap((sim) =>
      sim
        .requests()
        .filter(({ path, stream: streamed }) => streamed && path.endsWith('/chat/completions')),
    )
    expect(records).toHaveLength(STREAMS)
    // From the moment when all of them run: five hundred prefills at once are another matter.
    const steady = (all: readonly (readonly number[])[]): number[] => {
      const from = Math.max(...all.map(([, first = 0]) => first))
      return all.flatMap((times) => gapsOf(times.slice(0, -1).filter((at) => at >= from)))
    }
    const engineGaps = steady(records.map(({ frameTimes }) => frameTimes))
    const routerGaps = steady(seen.map(({ times }) => times))
    const gaps = { engine: percentile(engineGaps, 0.99), router: percentile(routerGaps, 0.99) }
    const frames = records.reduce((sum, { frameTimes }) => sum + frameTimes.length, 0)
    const merged = seen.reduce((sum, one) => sum + one.merged, 0)
    const quarter = (n: number) =>
      percentile(memory.slice((memory.length * (n - 1)) / 4, (memory.length * n) / 4), 0.5)
    const [early, late] = [quarter(2), quarter(4)]
    console.log(
      `${STREAMS} streams ${way} for ${seconds.toFixed(0)} s, ${Math.round(frames / seconds)} frames/s, none lost. ` +
        `Gaps at p50/p99: engine ${percentile(engineGaps, 0.5).toFixed(1)}/${gaps.engine.toFixed(1)} ms, ` +
        `through the router ${percentile(routerGaps, 0.5).toFixed(1)}/${gaps.router.toFixed(1)} ms. ` +
        `Reads with two frames: ${merged} (${((100 * merged) / frames).toFixed(3)} %). ` +
        `workerd's memory: ${early.toFixed(0)} MiB in the second quarter, ${late.toFixed(0)} MiB in the last.`,
    )
    expect(gaps.router).toBeLessThan(gaps.engine + gapMs)
    expect(late).toBeLessThan(early * 1.15)
  },
)

interface Chunk {
  readonly model: string
  readonly choices: readonly {
    readonly delta: { readonly content?: string | null }
    readonly finish_reason: string | null
  }[]
}
