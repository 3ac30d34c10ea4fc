/**
 * Twenty thousand short requests, sixty-four at once, half of them left at a random moment: no lease
 * stays behind, no instance ever gets more than its slots, and everyone who stays gets a whole answer.
 */
import { Agent } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import {
  generating,
  inFlight,
  isWhole,
  keyOf,
  mostAtOnce,
  textIn,
  type AnyAnswer,
} from '../support/e2e-api.ts'
import { open } from '../support/e2e-http.ts'
import { ALL, STREAMED } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const REQUESTS = Number(process.env['LOAD_REQUESTS'] ?? 20_000)
const ABORTS = REQUESTS / 2
const AT_ONCE = 64
/** Together fewer than are asked for at once, so that `pool_busy` happens too. */
const SLOTS = { a: 18, b: 14, c: 10 }
/** A request that is left is left within this time after it was sent, in milliseconds. */
const PATIENCE_MS = 250
/**
 * A slot is given back when the router closes its connection to the instance, which learns of that
 * some milliseconds later: so long may its own record show a request more.
 */
const NEWS_MS = 50

let stack: Stack
const agent = new Agent({ keepAlive: true })
beforeAll(async () => {
  const options = { keepBodies: false, profile: { ttftBaseMs: 40, itlBaseMs: 6 } }
  stack = await startStack({
    viaNginx: true,
    sims: Object.entries(SLOTS).map(([id, slots]) => ({ id, pool: 'load', slots, options })),
  })
})
afterAll(async () => {
  agent.destroy()
  await stack?.stop()
})

const sims = () => Object.entries(stack.sims)

/** What became of one request. */
type Fate = 'whole' | 'busy' | 'left' | 'left before an answer'

async function request(leaves: boolean): Promise<Fate> {
  const row = ALL[Math.floor(Math.random() * ALL.length)]!
  const stream = STREAMED.includes(row) && Math.random() < 0.5
  const tokens = 1 + Math.floor(Math.random() * 16)
  const model = Math.random() < 0.5 ? 'load' : 'load-alias'
  const body = row.body(model, `load ${tokens}`, { stream, max_tokens: tokens })
  const leaving = new AbortController()
  // Some leave while they wait, some while it speaks.
  const listens = stream && Math.random() < 0.5
  const leave = (withinMs: number) => setTimeout(() => leaving.abort(), withinMs)
  let timer = leaves && !listens ? leave(Math.random() ** 2 * PATIENCE_MS) : undefined
  try {
    const opened = await open(stack.url + row.path, {
      headers: keyOf(stack),
      body,
      agent,
      signal: leaving.signal,
    })
    if (leaves && listens && opened.status === 200) timer = leave(Math.random() * PATIENCE_MS * 0.3)
    const { status, text, complete } = await opened.ended
    if (leaving.signal.aborted && !complete) return 'left'
    if (status === 429 && isBusy(JSON.parse(text) as AnyAnswer)) return 'busy'
    const whole = !stream || isWhole(text)
    if (status === 200 && whole && complete && textIn(text) !== '') return 'whole'
    throw new Error(`${row.path}, stream ${stream}: ${status} ${text.slice(0, 500)}`)
  } catch (error) {
    if (leaving.signal.aborted && (error as Error).name === 'AbortError')
      return 'left before an answer'
    throw error
  } finally {
    clearTimeout(timer)
  }
}

/** In the words of either API. */
const isBusy = ({ error }: AnyAnswer): boolean =>
  error?.code === 'pool_busy' || error?.type === 'rate_limit_error'

it('leaves no lease behind, and never fills an instance beyond its slots', async () => {
  const fates: Record<Fate, number> = { whole: 0, busy: 0, left: 0, 'left before an answer': 0 }
  const most: Record<string, number> = {}
  const overfull: string[] = []
  const look = ({ instances }: PoolStatus): void => {
    for (const { id, inFlight: now, slots } of instances) {
      most[id] = Math.max(most[id] ?? 0, now)
      if (now > slots) overfull.push(`${id}: ${now} of ${slots}`)
    }
  }
  const total = () => Object.values(fates).reduce((sum, n) => sum + n, 0)
  const gone = () => fates.left + fates['left before an answer']
  const mostRunning: Record<string, number> = {}
  const watch = setInterval(() => {
    for (const [id, sim] of sims())
      mostRunning[id] = Math.max(mostRunning[id] ?? 0, sim.state().inFlight)
  }, 1)
  for (const [, sim] of sims()) sim.clearRequests()
  const startedAt = performance.now()

  let over = false
  const sampling = (async () => {
    while (!over) {
      look(await stack.pool('load'))
      await sleep(100)
    }
  })()
  const tenants = Array.from({ length: AT_ONCE }, async () => {
    while (total() < REQUESTS || gone() < ABORTS) {
      // More than half are meant to leave: some get their answer before they do.
      const fate = await request(gone() < ABORTS && Math.random() < 0.75)
      fates[fate]++
      if (fate === 'busy') await sleep(20)
    }
  })
  await Promise.all(tenants).finally(() => (over = true))
  await sampling
  clearInterval(watch)
  const seconds = (performance.now() - startedAt) / 1_000

  const status = await eventually(
    () => stack.pool('load'),
    (now) => inFlight(now) === 0,
  )
  // What the engines say of themselves, and what the router has last heard of them.
  await eventually(
    () => sims().map(([, sim]) => sim.state()),
    (states) =>
      states.every(({ running, waiting, inFlight }) => running + waiting + inFlight === 0),
  )
  await eventually(
    () => stack.pool('load'),
    ({ instances }) => instances.every(({ running }) => running === 0),
    10_000,
  )
  const seen = sims().map(([id, sim]) => [id, mostAtOnce(generating(sim), NEWS_MS)] as const)
  const asked = sims().reduce((sum, [, sim]) => sum + generating(sim).length, 0)
  const { ended, granted } = status
  console.log(
    `${total()} requests in ${seconds.toFixed(1)} s (${Math.round(total() / seconds)}/s), ${AT_ONCE} at once: ` +
      `${gone()} left (${fates['left before an answer']} of them before any answer), ${fates.whole} whole, ${fates.busy} busy. ` +
      `Granted ${granted}, ended ${JSON.stringify(ended)}, leases left ${inFlight(status)}. ` +
      `Most in flight ${JSON.stringify(most)}, most at the engines ${JSON.stringify(mostRunning)}, ` +
      `by their records ${JSON.stringify(Object.fromEntries(seen))}, slots ${JSON.stringify(SLOTS)}.`,
  )
  expect(gone()).toBeGreaterThanOrEqual(ABORTS)
  expect(overfull).toEqual([])
  expect(Object.values(ended).reduce((sum, n) => sum + n, 0)).toBe(granted)
  expect(ended['upstream-failed'] + ended.truncated + ended['timed-out']).toBe(0)
  expect(asked).toBeLessThanOrEqual(granted)
  expect(ended.done).toBeGreaterThanOrEqual(fates.whole)
  for (const [id, at] of seen) expect(at).toBeLessThanOrEqual(SLOTS[id as keyof typeof SLOTS])
})
