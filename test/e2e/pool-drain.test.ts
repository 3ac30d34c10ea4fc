/** An operator empties an instance before maintenance: nobody is cut off, nobody new comes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { isWhole } from '../support/e2e-api.ts'
import {
  allReady,
  becomes,
  chat,
  chatOpen,
  codeOf,
  instanceIn,
  instanceStatus,
  many,
  operator,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const POOLS = ['pair', 'reset', 'alone', 'waiting']

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: POOLS.flatMap((pool) =>
      (pool === 'alone' || pool === 'waiting' ? ['a'] : ['a', 'b']).map((name) => ({
        id: `${pool}-${name}`,
        pool,
        slots: pool === 'waiting' ? 1 : 8,
        options: { profile: QUICK },
      })),
    ),
    pools: { waiting: { queue: { max: 8, wait: '20s' } } },
    fleet: { defaults: { health: { every: '1s', timeout: '990ms' } } },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const say = (word: 'drain' | 'undrain', pool: string, id: string) =>
  operator(stack, 'POST', `/admin/pools/${pool}/instances/${id}/${word}`)

/** Requests that a simulator got of eight that were sent. */
const newAt = async (pool: string, id: string): Promise<number> => {
  const before = tenantsAt(stack.sims[id]!).length
  const answers = await many(8, 2, () => chat(stack, pool))
  expect(answers.filter(({ status }) => status !== 200)).toEqual([])
  return tenantsAt(stack.sims[id]!).length - before
}

describe('a drained instance', () => {
  it.concurrent('gets no new work, finishes what it has, says when it is empty, and comes back', async () => {
    for (const name of ['a', 'b']) stack.sims[`pair-${name}`]!.setProfile({ itlBaseMs: 20 })
    const streams = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const stream = await chatOpen(stack, 'pair', { max_tokens: 120 })
        await stream.until(/data: /)
        return stream
      }),
    )
    const { status, json } = await say('drain', 'pair', 'pair-a')
    expect(status).toBe(200)
    expect(instanceIn(json as unknown as PoolStatus, 'pair-a')).toMatchObject({
      state: 'draining',
      reason: 'drained by an operator',
      drained: true,
      inFlight: 2,
    })
    expect(await newAt('pair', 'pair-a')).toBe(0)
    expect((await say('drain', 'pair', 'pair-a')).status).toBe(200) // harmless twice

    for (const { ended } of streams) {
      const { text, complete } = await ended
      expect(complete && isWhole(text)).toBe(true)
    }
    expect(tenantsAt(stack.sims['pair-a']!).map(({ outcome }) => outcome)).toEqual(['done', 'done'])
    await becomes(
      stack,
      ['pair', 'pair-a'],
      ({ state, reason, inFlight }) =>
        state === 'draining' && reason === 'drained by an operator, empty' && inFlight === 0,
    )
    expect(await newAt('pair', 'pair-a')).toBe(0)

    const undrained = await say('undrain', 'pair', 'pair-a')
    expect(instanceIn(undrained.json as unknown as PoolStatus, 'pair-a')).toMatchObject({
      state: 'ready',
      drained: false,
    })
    expect(await newAt('pair', 'pair-a')).toBe(4)
  })

  it.concurrent('stays drained over a reset of the object, and over a new fleet version', async () => {
    expect((await say('drain', 'reset', 'reset-a')).status).toBe(200)
    await stack.crashPool('reset')
    expect(await instanceStatus(stack, 'reset', 'reset-a')).toMatchObject({
      state: 'draining',
      drained: true,
    })
    expect(await newAt('reset', 'reset-a')).toBe(0)
    await stack.admin.applyFleet(`${stack.yaml}\n# once more\n`)
    expect(await instanceStatus(stack, 'reset', 'reset-a')).toMatchObject({ drained: true })
    expect(await newAt('reset', 'reset-a')).toBe(0)
    expect((await say('undrain', 'reset', 'reset-a')).status).toBe(200)
    expect(await newAt('reset', 'reset-a')).toBeGreaterThan(0)
  })

  it.concurrent('leaves a pool of one with nobody to ask, until it is undrained', async () => {
    await say('drain', 'alone', 'alone-a')
    const refused = await chat(stack, 'alone')
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({
      status: 503,
      code: 'no_instance_ready',
    })
    await say('undrain', 'alone', 'alone-a')
    expect((await chat(stack, 'alone')).status).toBe(200)
  })

  it.concurrent('is nothing to wait for', async () => {
    stack.sims['waiting-a']!.setProfile({ itlBaseMs: 20 })
    const first = await chatOpen(stack, 'waiting', { max_tokens: 200 })
    const waits = chat(stack, 'waiting')
    await becomes(stack, ['waiting', 'waiting-a'], ({ inFlight }) => inFlight === 1)
    await say('drain', 'waiting', 'waiting-a')
    const refused = await waits
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({
      status: 503,
      code: 'no_instance_ready',
    })
    expect(isWhole((await first.ended).text)).toBe(true)
  })

  it.concurrent('has to exist', async () => {
    for (const word of ['drain', 'undrain'] as const) {
      expect(await say(word, 'pair', 'nobody')).toMatchObject({
        status: 404,
        json: { error: { code: 'instance_not_found' } },
      })
      expect(await say(word, 'nowhere', 'pair-a')).toMatchObject({
        status: 404,
        json: { error: { code: 'pool_not_found' } },
      })
    }
    const path = '/admin/pools/pair/instances/pair-b/drain'
    expect((await operator(stack, 'POST', path, { token: null })).status).toBe(401)
    expect((await operator(stack, 'POST', path, { token: stack.apiKey })).status).toBe(401)
    expect(await instanceStatus(stack, 'pair', 'pair-b')).toMatchObject({ drained: false })
  })
})
