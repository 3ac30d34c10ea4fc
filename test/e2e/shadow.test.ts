/** Copies of requests to a pool whose answers nobody reads: whatever becomes of them, the real ones do not notice. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Ending, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { inFlight, isWhole, keyOf } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import {
  allReady,
  CHAT,
  chat,
  chatOpen,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const MODELS = ['all', 'some', 'slow', 'away', 'left', 'cut']
/** Slower than any real one. */
const SLOW = { ...QUICK, ttftBaseMs: 1_500 }

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: MODELS.flatMap((name) => [
      { id: `${name}-real`, pool: name, options: { profile: QUICK } },
      {
        id: `${name}-shadow`,
        pool: `${name}-shadow`,
        options: { profile: ['slow', 'cut'].includes(name) ? SLOW : QUICK },
      },
    ]),
    fleet: {
      models: Object.fromEntries(
        MODELS.map((pool) => [
          pool,
          {
            arms: [{ pool }],
            shadow: { pool: `${pool}-shadow`, share: pool === 'some' ? 0.3 : 1 },
          },
        ]),
      ),
    },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const shadowOf = (model: string) => stack.sims[`${model}-shadow`]!
const copiesOf = (model: string) => tenantsAt(shadowOf(model))

/** Once nothing runs there any more, and so many copies were granted. */
const settledShadow = (model: string, copies: number): Promise<PoolStatus> =>
  eventually(
    () => poolStatus(stack, `${model}-shadow`),
    (status) => status.granted === copies && inFlight(status) === 0,
  )

const endedOnly = (ended: Partial<Record<Ending, number>>) => ({
  ...Object.fromEntries(ENDINGS.map((ending) => [ending, 0])),
  ...ended,
})
const ENDINGS: readonly Ending[] = [
  'done',
  'client-left',
  'upstream-failed',
  'truncated',
  'timed-out',
  'refused',
  'lost',
]

describe('a copy of a request', () => {
  it.concurrent('asks the shadow the same, and its figures are the shadow pool’s own', async () => {
    for (const stream of [true, false]) {
      const { status, headers, text } = await chat(stack, 'all', { stream, text: 'the same' })
      expect(status).toBe(200)
      expect(headers).toMatchObject({ 'x-penstock-pool': 'all', 'x-penstock-attempts': '1' })
      if (stream) expect(isWhole(text)).toBe(true)
    }
    const shadow = await settledShadow('all', 2)
    expect(shadow.ended).toEqual(endedOnly({ done: 2 }))
    const real = await poolStatus(stack, 'all')
    expect(shadow.tokens).toEqual(real.tokens)
    const realIds = tenantsAt(stack.sims['all-real']!).map(({ id }) => `${id}-shadow`)
    expect(copiesOf('all').map(({ id }) => id)).toEqual(realIds)
    const [asked] = tenantsAt(stack.sims['all-real']!)
    expect(copiesOf('all')[0]!.body).toEqual({
      ...(asked!.body as object),
      model: 'all-shadow',
    })
  })

  it.concurrent('is made of a share of the requests', async () => {
    for (let i = 0; i < 60; i++) expect((await chat(stack, 'some')).status).toBe(200)
    const { length } = await eventually(
      () => copiesOf('some'),
      ({ length: n }) => n > 0,
    )
    // Of 60, at three in ten: 18. Fewer than 4 or more than 40 is less likely than one in a million.
    expect(length).toBeGreaterThan(3)
    expect(length).toBeLessThan(41)
  })

  it.concurrent('is not waited for', async () => {
    const answers = await Promise.all(
      [true, false].map(async (stream) => {
        const { status } = await chat(stack, 'slow', { stream })
        expect(status).toBe(200)
        return (await poolStatus(stack, 'slow-shadow')).ended.done
      }),
    )
    expect(Math.max(...answers), 'over before the shadow has said a word').toBe(0)
    const { ended } = await settledShadow('slow', 2)
    expect(ended).toEqual(endedOnly({ done: 2 }))
  })

  it.concurrent('that fails, is refused, or finds nobody is not noticed', async () => {
    const expectFine = async () => {
      const { status, text } = await chat(stack, 'away', { stream: true })
      expect(status).toBe(200)
      expect(isWhole(text)).toBe(true)
    }
    await shadowOf('away').setFault({ kind: 'status', status: 500 })
    await expectFine()
    const { ended } = await settledShadow('away', 1)
    expect(ended, 'tried once').toEqual(endedOnly({ 'upstream-failed': 1 }))
    for (const how of ['throws', 'hangs'] as const) {
      const back = await stack.outOfReach({ pool: 'away-shadow' }, how)
      await expectFine()
      await expectFine()
      await back()
    }
  })

  it.concurrent('ends with its tenant', async () => {
    const stream = await chatOpen(stack, 'left')
    await stream.until(/data: [^]*data: /)
    await eventually(
      () => shadowOf('left').state(),
      ({ inFlight: running }) => running === 1,
    )
    stream.leave()
    const { ended } = await settledShadow('left', 1)
    expect(ended).toEqual(endedOnly({ 'client-left': 1 }))
    await eventually(
      () => shadowOf('left').state(),
      ({ inFlight: running }) => running === 0,
    )
  })

  it.concurrent('that the platform cuts is counted as lost, and its slot is free', async () => {
    const { status } = await ask(stack.url + CHAT, {
      headers: { ...keyOf(stack), 'x-test-background-ms': '500' },
      body: { model: 'cut', messages: [{ role: 'user', content: 'x' }], max_tokens: 4 },
    })
    expect(status).toBe(200)
    const { ended } = await settledShadow('cut', 1)
    expect(ended).toEqual(endedOnly({ lost: 1 }))
  })
})
