/**
 * A minute each in which an object of ours is out of reach, failing or silent, with requests at a steady
 * pace all the while: not one of them is lost, and afterwards nothing is left behind.
 */
import { expect, it } from 'vitest'
import { inFlight, isWhole } from '../support/e2e-api.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { allReady, chat, poolStatus, QUICK } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const MODEL = 'load'
const SECONDS = Number(process.env['LOAD_SECONDS'] ?? 60)
/** Fewer than an isolate may send by itself, an eighth of all slots. */
const AT_ONCE = 8
const SLOTS = 32
const PAUSE_MS = 100

/** Each outage has a fleet of its own, so that all of them can last their minute at once. */
function startFleet(): Promise<Stack> {
  const options = { keepBodies: false, profile: QUICK }
  return startStack({
    viaNginx: true,
    sims: ['a', 'b', 'c', 'd'].map((id) => ({ id, pool: MODEL, slots: SLOTS, options })),
  })
}

it.concurrent.each([
  { what: 'the fleet object fails', object: 'fleet', how: 'throws', reason: 'least_inflight' },
  { what: 'the fleet object is silent', object: 'fleet', how: 'hangs', reason: 'least_inflight' },
  { what: 'the pool object fails', object: { pool: MODEL }, how: 'throws', reason: 'static' },
  { what: 'the pool object is silent', object: { pool: MODEL }, how: 'hangs', reason: 'static' },
] as const)('requests go on while $what', async ({ what, object, how, reason }) => {
  await using stopped = new AsyncDisposableStack()
  const stack = await startFleet()
  stopped.defer(() => stack.stop())
  await allReady(stack)
  expect((await chat(stack, MODEL)).status).toBe(200)
  const back = await stack.outOfReach(object, how)
  const until = performance.now() + SECONDS * 1_000
  const took: number[] = []
  const reasons = new Set<unknown>()
  const client = async (): Promise<void> => {
    while (performance.now() < until) {
      const began = performance.now()
      const { status, headers, text } = await chat(stack, MODEL, { stream: true })
      took.push(performance.now() - began)
      if (status !== 200 || !isWhole(text)) throw new Error(`${status} ${text}`)
      reasons.add(headers['x-penstock-reason'])
      await sleep(PAUSE_MS)
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, client))
  } finally {
    await back()
  }
  const sorted = took.toSorted((a, b) => a - b)
  const ms = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? NaN)
  console.log(
    `${what} for ${SECONDS} s: ${took.length} requests, all answered; ` +
      `p50 ${ms(0.5)} ms, p99 ${ms(0.99)} ms, longest ${ms(1)} ms`,
  )
  expect([...reasons]).toEqual([reason])
  await eventually(
    () => chat(stack, MODEL),
    ({ headers }) => headers['x-penstock-reason'] === 'least_inflight',
  )
  await eventually(
    () => poolStatus(stack, MODEL),
    (status) => inFlight(status) === 0,
  )
})
