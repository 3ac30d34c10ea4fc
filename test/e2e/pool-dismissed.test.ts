/** An instance is taken out of service while requests run there: each of them is told, and does what it can. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { eventsOf, inFlight, isWhole } from '../support/e2e-api.ts'
import type { Open, Received } from '../support/e2e-http.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import {
  allReady,
  becomes,
  chat,
  chatOpen,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const PAIRS = ['opens', 'falls', 'back']
const SINGLES = ['alone', 'spare']
/** How soon all are told and have moved on: far from every patience of their own. */
const SOON_MS = 8_000
const PATIENCE = '60s'

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...PAIRS.flatMap((pool) => ['good', 'bad'].map((name) => ({ pool, name }))),
      ...SINGLES.map((pool) => ({ pool, name: 'bad' })),
    ].map(({ pool, name }) => ({ id: `${pool}-${name}`, pool, options: { profile: QUICK } })),
    pools: {
      ...Object.fromEntries(PAIRS.map((pool) => [pool, { policy: 'round_robin' }])),
      opens: {
        policy: 'round_robin',
        breaker: { consecutive: 3, open: '60s' },
        health: { every: '60s' }, // no reading interferes
      },
    },
    fleet: {
      defaults: {
        health: { every: '800ms', timeout: '790ms', down_after: 2 },
        timeouts: { first_byte: PATIENCE, idle: PATIENCE },
        early_commit: PATIENCE,
        queue: { wait: '10s' },
      },
      models: Object.fromEntries(
        [...PAIRS, ...SINGLES].flatMap((pool) => [
          [pool, { arms: [{ pool }] }],
          [`${pool}-or-spare`, { arms: [{ pool }], fallback: ['spare'] }],
        ]),
      ),
    },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

interface Running {
  /** Answers whole, slowly but steadily. */
  readonly flowing: Open
  /** Has said something, and says nothing more. */
  readonly silent: Open
  /** Have not been given a word yet, streamed and not. */
  readonly unbegun: readonly Promise<Received>[]
}

/** Brings an instance of two into every condition at once; what the other one gets is left alone. */
async function busy(pool: string, model = pool): Promise<Running> {
  const bad = stack.sims[`${pool}-bad`]!
  await bad.setFault({ kind: 'silence', afterChunks: 3, times: 1 })
  const silent = await onBad(pool, model)
  bad.setProfile({ itlBaseMs: 60 })
  const flowing = await onBad(pool, model)
  bad.setProfile({ ttftBaseMs: 600_000 })
  const had = tenantsAt(bad).length
  const unbegun: Promise<Received>[] = []
  for (const stream of [true, false]) {
    const text = `unbegun ${stream}`
    const has = () => JSON.stringify(tenantsAt(bad).map(({ body }) => body)).includes(text)
    while (!has()) {
      const asked = chat(stack, model, { text, stream })
      const answered = Symbol('answered')
      const first = await Promise.race([
        asked.then(() => answered),
        eventually(has, Boolean).catch(() => answered),
      ])
      if (first !== answered) unbegun.push(asked)
    }
  }
  expect(tenantsAt(bad).length).toBe(had + 2)
  return { flowing, silent, unbegun }
}

/** A stream that runs on the bad instance, with content. */
async function onBad(pool: string, model: string): Promise<Open> {
  for (let tries = 0; tries < 8; tries++) {
    const stream = await chatOpen(stack, model, { max_tokens: 100 })
    if (stream.headers['x-penstock-instance'] === `${pool}-bad`) {
      await stream.until(/data: [^]*data: /)
      return stream
    }
    await stream.ended
  }
  throw new Error(`${pool}-bad gets nothing`)
}

async function expectMovedOn(running: Running, from: string, to: string): Promise<void> {
  const began = performance.now()
  for (const answer of running.unbegun) {
    const { status, headers } = await answer
    expect(status).toBe(200)
    expect(headers).toMatchObject({ 'x-penstock-instance': to, 'x-penstock-attempts': '2' })
    expect(headers['x-penstock-reason']).toContain(`${from}: upstream-failed`)
  }
  const { text, complete } = await running.silent.ended
  expect(complete).toBe(true)
  expect(eventsOf(text).at(-1)).toMatch(/"error".*"code":"upstream_/)
  expect(text).not.toContain('[DONE]')
  expect(performance.now() - began).toBeLessThan(SOON_MS)
  expect(isWhole((await running.flowing.ended).text)).toBe(true)
}

const takeAway = (sim: Sim) => sim.setFault({ kind: 'status', status: 503, scope: 'all' })

describe('requests on an instance that is taken out of service', () => {
  it.concurrent('by its breaker: move on, end, or finish', async () => {
    const running = await busy('opens')
    const bad = stack.sims['opens-bad']!
    await bad.setFault({ kind: 'status', status: 503 })
    await eventually(
      async () => {
        expect((await chat(stack, 'opens')).status).toBe(200)
        return (await poolStatus(stack, 'opens')).instances.map(({ state }) => state)
      },
      (states) => states.includes('ejected'),
    )
    await expectMovedOn(running, 'opens-bad', 'opens-good')
    await becomes(stack, ['opens', 'opens-bad'], (instance) => instance.inFlight === 0)
  })

  it.concurrent('by its readings: move on, end, or finish', async () => {
    const running = await busy('falls')
    await takeAway(stack.sims['falls-bad']!)
    await expectMovedOn(running, 'falls-bad', 'falls-good')
  })

  it.concurrent('are told by a new life of the object too', async () => {
    const running = await busy('back')
    await sleep(1_500) // a request that is over sooner is not watched
    await stack.crashPool('back')
    await eventually(
      () => poolStatus(stack, 'back'),
      (status) => inFlight(status) === 4,
    )
    await sleep(1_500) // all of them are back by then
    await takeAway(stack.sims['back-bad']!)
    await expectMovedOn(running, 'back-bad', 'back-good')
  })

  it.concurrent('move to the fallback, or fail at once, where it was the only one', async () => {
    const running = await busy('alone', 'alone-or-spare')
    const began = performance.now()
    const stays = chat(stack, 'alone')
    await eventually(
      () => tenantsAt(stack.sims['alone-bad']!).length,
      (count) => count === 5,
    )
    await takeAway(stack.sims['alone-bad']!)
    await expectMovedOn(running, 'alone-bad', 'spare-bad')
    const { status, text } = await stays
    expect(status).toBe(502)
    expect(text).toContain('"upstream_failed"')
    expect(performance.now() - began).toBeLessThan(2 * SOON_MS)
  })
})
