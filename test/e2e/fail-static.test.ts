/** Our own objects out of reach: requests go on by what the Worker knows, and come back to normal after. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inFlight, isWhole } from '../support/e2e-api.ts'
import type { Open, Received } from '../support/e2e-http.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { allReady, chat, chatOpen, codeOf, poolStatus, QUICK } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const POOLS = ['throws', 'hangs', 'fleet']
/** An isolate alone uses an eighth of them: two of each instance. */
const SLOTS = 16
const ALONE = 4
/** After so long without a request, a snapshot is too old to be used unchecked. */
const SILENCE_MS = 10_500

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    services: 2,
    sims: POOLS.flatMap((pool) =>
      ['a', 'b'].map((id) => ({
        id: `${pool}-${id}`,
        pool,
        slots: SLOTS,
        options: { profile: QUICK },
      })),
    ),
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const reasonOf = ({ headers }: Pick<Received, 'headers'>) => headers['x-penstock-reason']

/** A stream that goes on until it is left; its slot may be that of one that has left just now. */
async function running(pool: string): Promise<Open> {
  const stream = await eventually(
    () => chatOpen(stack, pool),
    ({ status }) => status === 200,
  )
  await stream.until(/data: [^]*data: /)
  return stream
}

async function leave(streams: readonly Open[]): Promise<void> {
  for (const stream of streams) stream.leave()
  await Promise.all(streams.map(({ ended }) => ended))
}

/** Until the object decides again, and all that it counts is what it gave and has not got back. */
async function expectNormal(pool: string): Promise<void> {
  await eventually(
    () => chat(stack, pool),
    (answer) => reasonOf(answer) === 'least_inflight',
  )
  await eventually(
    () => poolStatus(stack, pool),
    (status) => inFlight(status) === 0,
  )
}

describe('a pool whose object is out of reach', () => {
  it.concurrent('is served under a low cap, and as before once it is back', async () => {
    const leased = await running('throws')
    const back = await stack.outOfReach({ pool: 'throws' }, 'throws')

    const instances = new Set<unknown>()
    for (let i = 0; i < 12; i++) {
      const answer = await chat(stack, 'throws', { stream: i % 2 === 0 })
      expect(answer.status).toBe(200)
      expect(reasonOf(answer)).toBe('static')
      instances.add(answer.headers['x-penstock-instance'])
    }
    expect(instances.size).toBe(2)

    for (let round = 1; round <= 2; round++) {
      const streams: Open[] = []
      for (let i = 0; i < ALONE; i++) streams.push(await running('throws'))
      const refused = await chat(stack, 'throws')
      expect([refused.status, codeOf(refused)]).toEqual([429, 'pool_busy'])
      expect(refused.headers['retry-after']).toBe('1')
      await leave(streams)
    }
    const alsoStatic = await running('throws')

    await back()
    await eventually(
      () => chat(stack, 'throws'),
      (answer) => reasonOf(answer) === 'least_inflight',
    )
    expect(inFlight(await poolStatus(stack, 'throws')), 'what it gave itself').toBe(1)
    await leave([leased, alsoStatic])
    await expectNormal('throws')
  })

  it.concurrent('is one that says nothing, too: only those who ask it wait for it', async () => {
    const leased = await running('hangs')
    const back = await stack.outOfReach({ pool: 'hangs' }, 'hangs')
    const began = performance.now()
    const first = await chat(stack, 'hangs')
    const firstMs = performance.now() - began
    expect([first.status, reasonOf(first)]).toEqual([200, 'static'])

    const next = performance.now()
    for (let i = 0; i < 5; i++) {
      const answer = await chat(stack, 'hangs')
      expect([answer.status, reasonOf(answer)]).toEqual([200, 'static'])
    }
    expect(performance.now() - next).toBeLessThan(firstMs)
    await back()
    await leave([leased])
    await expectNormal('hangs')
  })
})

describe('a fleet object out of reach', () => {
  it('stops nobody who has a snapshot, however old; where there is none, it refuses', async () => {
    expect((await chat(stack, 'fleet')).status).toBe(200)
    const back = await stack.outOfReach('fleet', 'throws')
    const [, cold = ''] = stack.services
    const expectAnswers = async () => {
      for (let i = 0; i < 20; i++) {
        const { status, text } = await chat(stack, 'fleet', { stream: true })
        expect(status).toBe(200)
        expect(isWhole(text)).toBe(true)
        await sleep(100)
      }
    }
    await expectAnswers()
    await sleep(SILENCE_MS)
    await expectAnswers()
    const elsewhere = { url: cold, apiKey: stack.apiKey }
    const refused = await chat(elsewhere, 'fleet')
    expect([refused.status, codeOf(refused)]).toEqual([503, 'router_unavailable'])

    await back()
    await eventually(
      () => chat(elsewhere, 'fleet'),
      ({ status }) => status === 200,
    )
  })
})
