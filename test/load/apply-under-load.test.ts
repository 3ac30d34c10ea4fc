/**
 * Five hundred streams run through Nginx and the Worker while an operator takes a node out of the fleet,
 * puts another in, and changes weights and policies, and while he takes it all back: no stream notices, and
 * whoever comes after the word comes by the new version.
 */
import { Agent } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { PoolTook } from '../../durable-objects/fleet/contract.ts'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { simScript } from '../../scripts/sim/script.ts'
import { generating, inFlight, isWhole, keyOf, textIn } from '../support/e2e-api.ts'
import { ask, open, type Open } from '../support/e2e-http.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { allReady, CHAT, operator, poolStatus } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const STREAMS = 500
/** Streams that begin under the new version, and are there when it is taken back. */
const LATER = 60
/** Of each stream; with these times half a minute at the node that is to leave, and a minute at the others. */
const TOKENS = 120
const TOKEN_MS = 500
const LEAVER_TOKEN_MS = 250
/** So soon after the operator's answer nobody new goes by an older version. */
const SOON_MS = 2_000
const MODEL = 'load'
const NEXT = 'load-next'
const LEAVER = 'b'
const NEWCOMER = 'f'
const PROBES_AT_ONCE = 4

const sim = (id: string, pool: string) => ({
  id,
  pool,
  slots: STREAMS,
  options: {
    keepBodies: false,
    profile: {
      ttftBaseMs: 50,
      itlMsPerRunning: 0,
      itlBaseMs: id === LEAVER ? LEAVER_TOKEN_MS : TOKEN_MS,
    },
  },
})

let stack: Stack
let first: string
const agent = new Agent({ keepAlive: true })
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...['a', LEAVER, 'c', NEWCOMER].map((id) => sim(id, MODEL)),
      ...['d', 'e'].map((id) => sim(id, NEXT)),
    ],
    fleet: {
      models: {
        [MODEL]: {
          arms: [
            { pool: MODEL, weight: 80 },
            { pool: NEXT, weight: 20, name: 'canary' },
          ],
          guard: {},
        },
      },
    },
  })
  await allReady(stack)
  // Its machine is set up, and its Nginx knows of it; the fleet does not yet.
  first = changed(stack.yaml, ({ pools }) => leave(pools[MODEL]!, NEWCOMER))
  await stack.admin.applyFleet(first)
  await eventually(
    () => stack.admin.pools(),
    (pools) => pools.every(({ instances }) => instances.every(({ id }) => id !== NEWCOMER)),
  )
  for (const one of Object.values(stack.sims)) one.clearRequests()
})
afterAll(async () => {
  agent.destroy()
  await stack?.stop()
})

function changed(yaml: string, change: (fleet: FleetInput) => void): string {
  const fleet = parse(yaml) as FleetInput
  change(fleet)
  return stringify(fleet)
}
function leave(pool: FleetInput['pools'][string], leaver: string): void {
  pool.instances = pool.instances.filter(({ id }) => id !== leaver)
}

const bodyOf = (seed: number, max_tokens: number) => ({
  model: MODEL,
  stream: true,
  seed,
  max_tokens,
  user: `user ${seed}`,
  messages: [{ role: 'user', content: `stream ${seed}` }],
})

interface Stream {
  readonly seed: number
  readonly opened: Open
  over: boolean
}

/** Begins a stream, and waits until the model speaks. */
async function begin(seed: number): Promise<Stream> {
  const body = bodyOf(seed, TOKENS)
  const opened = await open(stack.url + CHAT, { agent, headers: keyOf(stack), body })
  if (opened.status !== 200) throw new Error(`stream ${seed}: ${opened.status} ${opened.text}`)
  await opened.until(/"content":"[^"]/)
  const stream = { seed, opened, over: false }
  void opened.ended.then(() => (stream.over = true))
  return stream
}
const beginMany = (from: number, count: number): Promise<Stream[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => begin(from + i)))

async function expectWhole({ seed, opened }: Stream): Promise<void> {
  const { text, complete } = await opened.ended
  const script = simScript(bodyOf(seed, TOKENS))[0]!.tokens
  // One comparison, so that a failure names the stream.
  expect({ seed, complete, whole: isWhole(text), said: textIn(text) }).toEqual({
    seed,
    complete: true,
    whole: true,
    said: script.map(({ delta }) => delta).join(''),
  })
}

/** One short request, and where it went. */
interface Probe {
  /** Unix milliseconds. */
  readonly sentAt: number
  readonly status: number
  readonly fleet: number
  readonly arm: unknown
  readonly instance: unknown
}

/** Asks for something short, over and over, until it is told to stop. */
function startProbes() {
  const probes: Probe[] = []
  let seed = 1_000_000
  let over = false
  const lanes = Array.from({ length: PROBES_AT_ONCE }, async () => {
    while (!over) {
      const sentAt = Date.now()
      const body = bodyOf(seed++, 1)
      const { status, headers } = await ask(stack.url + CHAT, {
        agent,
        headers: keyOf(stack),
        body,
      })
      const { 'x-penstock-arm': arm, 'x-penstock-instance': instance } = headers
      const fleet = Number(headers['x-penstock-fleet'])
      probes.push({ sentAt, status, fleet, arm, instance })
      await sleep(20)
    }
  })
  return {
    probes,
    stop: async (): Promise<void> => {
      over = true
      await Promise.all(lanes)
    },
  }
}

interface Told {
  readonly version: number
  readonly pools: readonly PoolTook[]
  /** When the operator had his answer, Unix milliseconds. */
  readonly at: number
}

async function told(method: 'PUT' | 'POST', path: string, body: string | object): Promise<Told> {
  const { status, text } = await ask(stack.url + path, {
    method,
    headers: { authorization: `Bearer ${stack.adminToken}` },
    body,
  })
  if (status !== 200) throw new Error(`${path}: ${status} ${text}`)
  return { ...(JSON.parse(text) as Told), at: Date.now() }
}

const instancesIn = ({ instances }: PoolStatus) =>
  Object.fromEntries(instances.map(({ id, state, inFlight: n }) => [id, { state, n }]))
/** Answers to requests that were sent between two moments. */
const sentBetween = (probes: readonly Probe[], from: number, to = Infinity) =>
  probes.filter(({ sentAt }) => sentAt > from && sentAt < to)
const shareOfCanary = (probes: readonly Probe[]): number =>
  probes.filter(({ arm }) => arm === 'canary').length / probes.length

it('apply and rollback under five hundred streams cut none, and hold for all who come after', async () => {
  const { version } = (await operator(stack, 'GET', '/admin/fleet')).json as { version: number }
  const { probes, stop } = startProbes()
  const beganAt = Date.now()
  const streams = await beginMany(0, STREAMS)
  await sleep(2_000)
  expect(streams.filter(({ over }) => over)).toHaveLength(0)

  const askedAt = Date.now()
  const applied = await told(
    'PUT',
    '/admin/fleet',
    changed(stack.yaml, ({ pools, models }) => {
      leave(pools[MODEL]!, LEAVER)
      pools[MODEL]!.policy = 'round_robin'
      pools[NEXT]!.policy = 'adaptive'
      const [stable, canary] = models[MODEL]!.arms
      stable!.weight = 50
      canary!.weight = 50
    }),
  )
  expect(applied).toMatchObject({
    version: version + 1,
    pools: [MODEL, NEXT].map((pool) => ({ pool, taken: true, version: version + 1 })),
  })
  const draining = await poolStatus(stack, MODEL)
  expect(draining.policy).toBe('round_robin')
  const leaving = instancesIn(draining)[LEAVER]!
  expect(leaving.state).toBe('draining')
  expect(leaving.n).toBeGreaterThan(STREAMS / 10)
  const later = await beginMany(STREAMS, LATER)

  // It is gone once its own streams are over, while those of the others go on.
  await eventually(
    () => poolStatus(stack, MODEL),
    (status) => instancesIn(status)[LEAVER] === undefined,
    120_000,
  )
  const goneAfter = Date.now() - applied.at
  const running = streams.filter(({ over }) => !over).length
  expect(running).toBeGreaterThan(STREAMS / 2)

  const rolledBackAt = Date.now()
  const back = await told('POST', '/admin/fleet/rollback', { version })
  expect(back.version).toBe(version + 2)
  expect(instancesIn(await poolStatus(stack, MODEL))[NEWCOMER]).toMatchObject({ state: 'draining' })
  expect((await poolStatus(stack, MODEL)).policy).toBe('least_inflight')

  for (const stream of [...streams, ...later]) await expectWhole(stream)
  await stop()

  // Every request was answered, by whichever version.
  expect(probes.filter(({ status }) => status !== 200)).toEqual([])
  const under = {
    old: sentBetween(probes, 0, askedAt),
    new: sentBetween(probes, applied.at + SOON_MS, rolledBackAt),
    oldAgain: sentBetween(probes, back.at + SOON_MS),
  }
  const counts = Object.values(under).map(({ length }) => length)
  expect(Math.min(...counts)).toBeGreaterThan(50)
  const fleets = (some: readonly Probe[]) => [...new Set(some.map(({ fleet }) => fleet))]
  expect(Object.values(under).map(fleets)).toEqual([[version], [version + 1], [version + 2]])
  const by = (some: readonly Probe[]) => new Set(some.map(({ instance }) => instance))
  expect(by(sentBetween(probes, applied.at, rolledBackAt))).not.toContain(LEAVER)
  expect(by(under.new)).toContain(NEWCOMER)
  expect(by(sentBetween(probes, back.at))).not.toContain(NEWCOMER)
  expect(by(under.oldAgain)).toContain(LEAVER)
  const shares = Object.values(under).map(shareOfCanary)
  expect(Math.max(shares[0]!, shares[2]!)).toBeLessThan(0.35)
  expect(shares[1]).toBeGreaterThan(0.35)

  // By the nodes' own records as well.
  const reached = (id: string, from: number, to: number) =>
    generating(stack.sims[id]!).filter(({ arrivedAt }) => arrivedAt > from && arrivedAt < to)
  expect(reached(LEAVER, applied.at + SOON_MS, rolledBackAt)).toHaveLength(0)
  expect(reached(NEWCOMER, back.at + SOON_MS, Infinity)).toHaveLength(0)
  expect(later.some(({ opened }) => opened.headers['x-penstock-instance'] === NEWCOMER)).toBe(true)
  await eventually(
    () => stack.admin.pools(),
    (pools) =>
      pools.every((pool) => inFlight(pool) === 0 && instancesIn(pool)[NEWCOMER] === undefined),
    15_000,
  )

  const lastOf = (fleet: number, at: number) =>
    Math.max(0, ...probes.filter((probe) => probe.fleet === fleet).map(({ sentAt }) => sentAt - at))
  console.log(
    `${streams.length + later.length} streams of ${TOKENS} tokens, ${probes.length} short requests in ` +
      `${((Date.now() - beganAt) / 1_000).toFixed(0)} s: none cut, none refused. apply took ` +
      `${applied.at - askedAt} ms, rollback ${back.at - rolledBackAt} ms; the last request by the old version was sent ` +
      `${lastOf(version, applied.at)} ms after the one, ${lastOf(version + 1, back.at)} ms after the other. The node that left had ` +
      `${leaving.n} streams and was gone after ${(goneAfter / 1_000).toFixed(0)} s, with ${running} streams still running. ` +
      `The canary's share of new requests: ${shares.map((share) => `${(share * 100).toFixed(0)} %`).join(', ')}.`,
  )
})
