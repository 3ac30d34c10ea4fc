/** The pool's object is reset while streams run: they finish, and the count is right again after. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { ask, open } from '../support/e2e-http.ts'
import { generating, inFlight, isWhole, keyOf, mostAtOnce, textIn } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const SLOTS = 12
const STREAMS = 20
const ON_THEIR_WAY_MS = 100

let stack: Stack
/** The same model without its delays: says at once what the others will have said. */
let likeIt: Sim
beforeAll(async () => {
  likeIt = await startSim({ model: 'pool', profile: 'instant' })
  const options = { profile: { ttftBaseMs: 20, itlBaseMs: 25, itlMsPerRunning: 0 } }
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'a', pool: 'pool', slots: SLOTS, options },
      { id: 'b', pool: 'pool', slots: SLOTS, options },
    ],
  })
})
afterAll(async () => {
  await stack?.stop()
  await likeIt?.close()
})

const sims = () => Object.values(stack.sims)
const running = () => sims().reduce((sum, sim) => sum + sim.state().inFlight, 0)
const row = CHAT
const fields = (seed: number, max_tokens: number) => ({ stream: true, seed, max_tokens })

describe('a pool whose object is reset', () => {
  it('finishes all streams whole, counts right again, and never overfills an instance', async () => {
    for (const sim of sims()) sim.clearRequests()
    const tokens = 420
    const streams = await Promise.all(
      Array.from({ length: STREAMS }, async (_, i) => {
        const body = row.body('pool', 'reset', fields(i, tokens))
        const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
        await opened.until(/data: /)
        return opened
      }),
    )
    expect(inFlight(await stack.pool('pool'))).toBe(STREAMS)

    // New requests keep coming, at the very moment of the reset too: more than there is room for.
    const statuses = new Map<number, number>()
    const answers: string[] = []
    let over = false
    const newcomers = Array.from({ length: 8 }, async (_, i) => {
      while (!over) {
        const body = row.body('pool', 'newcomer', fields(100 + i, 6))
        const { status, text } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        if (status === 200) answers.push(text)
        else await sleep(20)
      }
    })
    await sleep(150)
    const crashes = [Date.now()]
    await stack.crashPool('pool')
    await sleep(700)
    crashes.push(Date.now())
    await stack.crashPool('pool') // again, while owners are still coming back
    await sleep(2_000)
    over = true
    await Promise.all(newcomers)

    // All of them still run, and the new object knows of each. For some seconds it takes the engines'
    // word for how many there may be; after that only those count whose owners have come back.
    const seen: number[] = []
    for (const end = performance.now() + 4_000; performance.now() < end; await sleep(100))
      seen.push(inFlight(await stack.pool('pool')))
    expect(running()).toBe(STREAMS)
    expect(Math.min(...seen)).toBe(STREAMS)
    expect(seen.at(-1)).toBe(STREAMS)
    // The streams take 20 of the 24 places; eight newcomers at a time fight for the rest.
    // (Those on their way at the very moment of a reset are known to nobody: not to the old object,
    // which is gone, and not yet to the engine, whose word the new one takes.)
    const onTheirWay = ({ arrivedAt }: RequestRecord) =>
      crashes.some((at) => arrivedAt >= at && arrivedAt < at + ON_THEIR_WAY_MS)
    for (const sim of sims()) {
      const known = generating(sim).filter((record) => !onTheirWay(record))
      expect(mostAtOnce(known)).toBeLessThanOrEqual(SLOTS)
    }
    expect(answers.length).toBeGreaterThan(0)
    expect(answers.every(isWhole)).toBe(true)
    expect([...statuses.keys()].filter((status) => ![200, 429, 503].includes(status))).toEqual([])

    for (const [i, stream] of streams.entries()) {
      const body = row.body('pool', 'reset', fields(i, tokens))
      const expected = textIn((await ask(likeIt.url + row.path, { body })).text)
      const { text, complete } = await stream.ended
      expect(complete && isWhole(text)).toBe(true)
      expect(textIn(text)).toBe(expected)
    }
    const { ended } = await eventually(
      () => stack.pool('pool'),
      (status) => inFlight(status) === 0,
    )
    expect(ended.done).toBeGreaterThanOrEqual(STREAMS)
    expect(ended.lost).toBe(0)
  })

  it('forgets those who left while it was away', async () => {
    const streams = await Promise.all(
      Array.from({ length: 6 }, async (_, i) => {
        const body = row.body('pool', 'leave', fields(i, 2_000))
        const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
        await opened.until(/data: /)
        return opened
      }),
    )
    await stack.crashPool('pool')
    for (const stream of streams) stream.leave('reset')
    await eventually(running, (left) => left === 0)
    // Owners' places are kept for some seconds, in case they come back; none of these does.
    await eventually(
      () => stack.pool('pool'),
      (status) => inFlight(status) === 0,
      8_000,
    )
    const body = row.body('pool', 'after', { max_tokens: 2 })
    expect((await ask(stack.url + row.path, { headers: keyOf(stack), body })).status).toBe(200)
  })
})

it('a request that ends while it listens for its pool leaves no slot behind', async () => {
  const before = (await stack.pool('pool')).ended.lost
  for (let i = 0; i < 5; i++) await stack.walkAway('pool')
  await eventually(
    () => stack.pool('pool'),
    ({ ended }) => ended.lost === before + 5,
    15_000,
  )
  expect(inFlight(await stack.pool('pool'))).toBe(0)
})
