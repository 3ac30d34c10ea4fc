import { describe, expect, it } from 'vitest'
import type { InstanceState, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { untilReady } from '../../scripts/local/admin.ts'

const pool = (name: string, ...states: InstanceState[]): PoolStatus => ({
  contract: 1,
  pool: name,
  fleet: 1,
  policy: 'least_inflight',
  instances: states.map((state, i) => ({
    id: `${name}-${i + 1}`,
    state,
    reason: state === 'ready' ? '' : 'connection refused',
    since: 0,
    inFlight: 0,
    slots: 1,
    running: null,
    waiting: null,
  })),
  granted: 0,
  ended: {
    done: 0,
    'client-left': 0,
    'upstream-failed': 0,
    truncated: 0,
    'timed-out': 0,
    refused: 0,
    lost: 0,
  },
})

describe('untilReady', () => {
  it('needs one ready instance in each pool, not all of them', async () => {
    const read = async () => [pool('a', 'down', 'ready'), pool('b', 'ready')]
    expect(await untilReady(read, 60_000)).toEqual([])
  })

  it('asks again until the last pool is ready', async () => {
    const readings = [[pool('a', 'starting')], [pool('a', 'down')], [pool('a', 'ready')]]
    let asked = 0
    const read = async () => readings[asked++] ?? []
    expect(await untilReady(read, 60_000)).toEqual([])
    expect(asked).toBe(3)
  })

  it('gives up at the limit and says which instance is not ready, and why', async () => {
    const read = async () => [pool('a', 'ready'), pool('b', 'starting', 'down')]
    expect(await untilReady(read, 0)).toEqual([
      'b: b-1 starting: connection refused; b-2 down: connection refused',
    ])
  })
})
