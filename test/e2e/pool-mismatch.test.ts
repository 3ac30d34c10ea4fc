/** A port may serve another model than the fleet says: nobody is sent there, and operators can read why. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { startSim } from '../../scripts/sim/server.ts'
import { generating } from '../support/e2e-api.ts'
import { becomes, chat, codeOf, instanceIn, operator, QUICK } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const options = { profile: QUICK }
const OTHER = { ...options, model: 'Llama-3-8B', servedModelNames: ['llama'] }

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'pair-right', pool: 'pair', options },
      { id: 'pair-wrong', pool: 'pair', options: OTHER },
      { id: 'alone-wrong', pool: 'alone', options: OTHER },
      { id: 'swapped-first', pool: 'swapped', options },
      { id: 'swapped-second', pool: 'swapped', options },
    ],
    ready: false, // one of them never will be
    fleet: { defaults: { health: { every: '1s', timeout: '990ms' }, slow_start: '0s' } },
  })
})
afterAll(() => stack?.stop())

const READY_MS = 15_000
const reasonFor = (pool: string): string => `serves Llama-3-8B, llama, not ${pool}`

describe('an instance that serves another model', () => {
  it('is a mismatch with its reason in GET /admin/pools, and gets nothing', async () => {
    await becomes(stack, ['pair', 'pair-right'], ({ state }) => state === 'ready', READY_MS)
    await becomes(stack, ['pair', 'pair-wrong'], ({ state }) => state === 'mismatch', READY_MS)
    const { status, json } = await operator(stack, 'GET', '/admin/pools')
    expect(status).toBe(200)
    const { pools } = json as unknown as { readonly pools: readonly PoolStatus[] }
    const pair = pools.find(({ pool }) => pool === 'pair')!
    expect(instanceIn(pair, 'pair-wrong')).toMatchObject({
      state: 'mismatch',
      reason: reasonFor('pair'),
      since: expect.any(Number) as number,
      inFlight: 0,
    })

    for (let i = 0; i < 6; i++) {
      const got = await chat(stack, 'pair')
      expect(got.status).toBe(200)
      expect(got.headers['x-penstock-instance']).toBe('pair-right')
    }
    expect(generating(stack.sims['pair-wrong']!)).toEqual([])
  })

  it('leaves a pool with nothing ready when it is alone there', async () => {
    await becomes(stack, ['alone', 'alone-wrong'], ({ state }) => state === 'mismatch', READY_MS)
    const got = await chat(stack, 'alone')
    expect({ status: got.status, code: codeOf(got) }).toEqual({
      status: 503,
      code: 'no_instance_ready',
    })
    expect(generating(stack.sims['alone-wrong']!)).toEqual([])
  })

  it('is found out when it takes the port of one that has gone, and is ready once it is right', async () => {
    const at = ['swapped', 'swapped-second'] as const
    await becomes(stack, at, ({ state }) => state === 'ready', READY_MS)
    const { port } = stack.sims['swapped-second']!
    await stack.sims['swapped-second']!.close()
    await becomes(stack, at, ({ state }) => state === 'down', READY_MS)
    const other = await startSim({ ...OTHER, kind: 'all', port })
    try {
      const { reason } = await becomes(stack, at, ({ state }) => state === 'mismatch', READY_MS)
      expect(reason).toBe(reasonFor('swapped'))
      const got = await chat(stack, 'swapped')
      expect(got.headers['x-penstock-instance']).toBe('swapped-first')
      expect(generating(other)).toEqual([])
    } finally {
      await other.close()
    }
    const right = await startSim({ ...options, model: 'swapped', kind: 'all', port })
    try {
      const { reason } = await becomes(stack, at, ({ state }) => state === 'ready', READY_MS)
      expect(reason).toBe('healthy')
    } finally {
      await right.close()
    }
  })
})
