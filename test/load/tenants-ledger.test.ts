/**
 * Ten thousand requests of two tenants, with instances that fail, clients that leave, and objects of
 * tenants and of the pool reset all the while: no reservation stays behind, and the ledger has what the
 * instances have counted themselves.
 */
import { Agent } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import {
  generating,
  inFlight,
  isWhole,
  keyOf,
  partsOf,
  type AnyAnswer,
} from '../support/e2e-api.ts'
import { open, type Received } from '../support/e2e-http.ts'
import { ALL, STREAMED } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'

const REQUESTS = Number(process.env['LOAD_REQUESTS'] ?? 10_000)
const AT_ONCE = 48
/** A request that is left is left within this time, in milliseconds. */
const PATIENCE_MS = 250
/** Between two resets, and two faults, in milliseconds. */
const RESET_EVERY_MS = 700
const FAULT_EVERY_MS = 150

const FAULTS: readonly (Fault | null)[] = [
  null,
  null,
  { kind: 'status', status: 500, times: 6 },
  { kind: 'cut', afterChunks: 0, times: 3 },
  { kind: 'cut', afterChunks: 4, midFrame: true, times: 3 },
  { kind: 'stream-error', code: 500, afterChunks: 3, times: 3 },
  { kind: 'early-end', afterChunks: 5, times: 3 },
]

/** One whose instances do what they should, and one of which some never do. */
const POOLS = { sound: ['a', 'b'], faulty: ['c', 'd', 'e'] }
type PoolName = keyof typeof POOLS

let stack: Stack
let tenants: Tenants
const agent = new Agent({ keepAlive: true })
beforeAll(async () => {
  const options = { keepBodies: false, profile: { ttftBaseMs: 20, itlBaseMs: 3 } }
  stack = await startStack({
    services: 2,
    sims: Object.entries(POOLS).flatMap(([pool, ids]) =>
      ids.map((id) => ({ id, pool, slots: 64, options })),
    ),
    fleet: { plans: { wide: { rpm: 1_000_000, tpm: 1_000_000_000, concurrency: 1_000 } } },
  })
  tenants = tenantsOf(stack)
})
afterAll(async () => {
  agent.destroy()
  await stack?.stop()
})

const rows = ALL.filter(({ path }) => !path.includes('audio') && !path.includes('count_tokens'))

/** What the client knows of a request. */
interface Fate {
  readonly id: string
  readonly path: string
  readonly pool: PoolName
  /** `whole`: all of its answer; `broken`: an answer that was cut; `failed`: none, for no fault of ours. */
  readonly kind: 'whole' | 'broken' | 'failed' | 'refused' | 'left'
}

async function request(key: string, leaves: boolean, i: number): Promise<Fate> {
  const row = rows[Math.floor(Math.random() * rows.length)]!
  const stream = STREAMED.includes(row) && Math.random() < 0.5
  const pool = Math.random() < 0.5 ? 'sound' : 'faulty'
  const model = Math.random() < 0.5 ? pool : `${pool}-alias`
  const known = { path: row.path, pool } as const
  const max_tokens = 1 + Math.floor(Math.random() * 24)
  const leaving = new AbortController()
  const timer = leaves
    ? setTimeout(() => leaving.abort(), Math.random() ** 2 * PATIENCE_MS)
    : undefined
  try {
    const opened = await open(stack.services[i % stack.services.length]! + row.path, {
      headers: keyOf({ apiKey: key }),
      body: row.body(model, `load ${i}`, { stream, max_tokens }),
      agent,
      signal: leaving.signal,
    })
    const received = await opened.ended
    const id = String(received.headers['x-request-id'])
    return { ...known, id, kind: leaving.signal.aborted ? 'left' : kindOf(received, stream) }
  } catch (error) {
    if (leaving.signal.aborted) return { ...known, id: '', kind: 'left' }
    throw error
  } finally {
    clearTimeout(timer)
  }
}

function kindOf({ status, text, complete }: Received, stream: boolean): Fate['kind'] {
  if (status === 200) {
    if (!complete || (stream && !isWhole(text))) return 'broken'
    return partsOf(text).some(({ error }) => error) ? 'broken' : 'whole' // it may come after the last word
  }
  if (status === 502 || status === 504) return 'failed'
  const { error } = JSON.parse(text) as AnyAnswer
  if (status === 429 || status === 503) return 'refused'
  throw new Error(`${status} ${JSON.stringify(error)}`)
}

it('leaves no reservation behind, and books what the instances counted', async () => {
  const keys = {
    stays: await tenants.create('stays', { plan: 'wide' }),
    leaves: await tenants.create('leaves', { plan: 'wide' }),
  }
  for (const sim of Object.values(stack.sims)) sim.clearRequests()
  const fates: Record<keyof typeof keys, Fate[]> = { stays: [], leaves: [] }
  let asked = 0
  let over = false
  let resets = 0
  const startedAt = performance.now()
  const faulting = (async () => {
    while (!over) {
      const id = POOLS.faulty[Math.floor(Math.random() * POOLS.faulty.length)]!
      await stack.sims[id]!.setFault(FAULTS[Math.floor(Math.random() * FAULTS.length)]!)
      await sleep(FAULT_EVERY_MS)
    }
    for (const sim of Object.values(stack.sims)) await sim.setFault(null)
  })()
  const resetting = (async () => {
    for (; !over; resets++) {
      await sleep(Math.random() * 2 * RESET_EVERY_MS)
      const tenant = ['stays', 'leaves'][resets % 3]
      const pool = Math.random() < 0.5 ? 'sound' : 'faulty'
      await (tenant === undefined ? stack.crashPool(pool) : stack.crashTenant(tenant))
    }
  })()
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (asked < REQUESTS) {
        const i = asked++
        const who = i % 2 === 0 ? 'stays' : 'leaves'
        const fate = await request(keys[who], who === 'leaves' && Math.random() < 0.8, i)
        fates[who].push(fate)
        if (fate.kind === 'refused') await sleep(30)
      }
    }),
  ).finally(() => (over = true))
  await Promise.all([faulting, resetting])
  const seconds = (performance.now() - startedAt) / 1_000

  for (const id of ['stays', 'leaves']) await tenants.idle(id, 15_000)
  for (const pool of Object.keys(POOLS)) {
    await eventually(
      () => stack.pool(pool),
      (status) => inFlight(status) === 0,
      15_000,
    )
  }
  const records = Object.values(stack.sims).flatMap((sim) => generating(sim))
  const byId = Map.groupBy(records, ({ id }) => id ?? '')
  const stays = await tenants.usage('stays', 'month')
  const leaves = await tenants.usage('leaves', 'month')
  const counts = (of: readonly Fate[]) =>
    Object.fromEntries(
      [...Map.groupBy(of, ({ kind }) => kind)].map(([kind, all]) => [kind, all.length]),
    )
  console.log(
    `${asked} requests in ${seconds.toFixed(0)} s, ${resets} resets. ` +
      `stays: ${JSON.stringify(counts(fates.stays))}, leaves: ${JSON.stringify(counts(fates.leaves))}`,
    ...[...stays, ...leaves].map((row) => `\n${JSON.stringify(row)}`),
  )

  const of = (pool: PoolName) => fates.stays.filter((fate) => fate.pool === pool)
  const sound = of('sound').filter(({ kind }) => kind !== 'refused')
  expect(counts(sound)).toEqual({ whole: sound.length })
  const answers = sound.flatMap(({ id }) => (byId.get(id) ?? []).filter(isDone))
  expect(answers).toHaveLength(sound.length)
  expect(stays.find(({ model }) => model === 'sound')).toMatchObject({
    requests: sound.length,
    errors: 0,
    promptTokens: total(answers, 'promptTokens'),
    completionTokens: total(answers, 'tokensGenerated'),
    estimatedTokens: 0,
  })

  // Who leaves is nobody's fault.
  expect(leaves.find(({ model }) => model === 'sound')).toMatchObject({ errors: 0 })

  const faulty = of('faulty').filter(({ kind }) => kind !== 'refused')
  const answered = faulty.map(({ id, kind }) => {
    const records = byId.get(id) ?? []
    return { kind, answering: records.filter((it) => (kind === 'whole') === isDone(it)) }
  })
  const row = stays.find(({ model }) => model === 'faulty')!
  const whole = answered.filter(({ kind }) => kind === 'whole').flatMap((it) => it.answering)
  const broken = answered.filter(({ kind }) => kind === 'broken').flatMap((it) => it.answering)
  expect(row.requests).toBe(faulty.length)
  expect(row.errors).toBe(faulty.filter(({ kind }) => kind !== 'whole').length)
  for (const [field, count] of [
    ['promptTokens', 'promptTokens'],
    ['completionTokens', 'tokensGenerated'],
  ] as const) {
    // Of what broke off as much is booked as was seen of it, or an estimate, which stands apart.
    expect(row[field]).toBeGreaterThanOrEqual(total(whole, count))
    expect(row[field]).toBeLessThanOrEqual(total([...whole, ...broken], count))
    // Of those who left nobody can say to the token how far the instance had come: never too much.
    const booked = [...stays, ...leaves].reduce((sum, it) => sum + it[field], 0)
    expect(booked).toBeLessThanOrEqual(total(records, count))
  }
})

type Count = 'promptTokens' | 'tokensGenerated'
const total = (records: readonly RequestRecord[], of: Count): number =>
  records.reduce((sum, record) => sum + record[of], 0)

const isDone = ({ outcome }: RequestRecord): boolean => outcome === 'done'
