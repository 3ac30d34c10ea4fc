/**
 * A tenant who leaves frees the GPU, whenever he leaves and however he asked (L01 to L06): the
 * instance's connection closes, the engine stops, the slot is back, and it is told as `client-left`.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { ask, open, type Open } from '../support/e2e-http.ts'
import { generating, inFlight, keyOf, onlyRequest } from '../support/e2e-api.ts'
import { ALL, CHAT, STREAMED, type Row } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const LONG_TTFT = { ttftBaseMs: 600_000, itlBaseMs: 20 }
const FLOWING = { ttftBaseMs: 1, itlBaseMs: 15, prefillMsPerToken: 0 }
const LONG = 8_000

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'm1', pool: 'matrix', options: { maxModelLen: 100_000 } },
      { id: 'p1', pool: 'pair', options: { maxModelLen: 100_000 } },
      { id: 'p2', pool: 'pair', options: { maxModelLen: 100_000 } },
      { id: 's1', pool: 'storm', slots: 64, options: { profile: { ttftBaseMs: 5, itlBaseMs: 4 } } },
    ],
  })
})
afterAll(() => stack?.stop())

const left = ({ ended }: PoolStatus): number => ended['client-left']

/** The pool once no lease is out and one more tenant is counted as gone. */
const settled = (pool: string, leftBefore: number): Promise<PoolStatus> =>
  eventually(
    () => stack.pool(pool),
    (status) => inFlight(status) === 0 && left(status) === leftBefore + 1,
    2_000,
  )

interface Moment {
  readonly when: string
  /** Prepares the instance so that a request gets this far and no further. */
  readonly prepare: (sim: Sim) => Promise<void>
  /** Resolves when the request has got there. */
  readonly reached: (sim: Sim, opened: Promise<Open>, stream: boolean) => Promise<unknown>
}

const MOMENTS: readonly Moment[] = [
  {
    when: 'before the instance has sent headers',
    prepare: (sim) => sim.setFault({ kind: 'hang', scope: 'inference' }),
    reached: onlyRequest,
  },
  {
    when: 'before the first chunk',
    prepare: async (sim) => sim.setProfile(LONG_TTFT),
    reached: (sim) =>
      eventually(
        () => sim.state().running,
        (running) => running === 1,
      ),
  },
  {
    when: 'in the middle of the answer',
    prepare: async (sim) => sim.setProfile(FLOWING),
    reached: async (sim, opened, stream) => {
      if (stream) await (await opened).until(/(data: [^]*){4}/)
      const record = await onlyRequest(sim)
      await eventually(
        () => record.tokensGenerated,
        (tokens) => tokens > 4,
      )
    },
  },
]

const generates = ({ path }: Row): boolean => STREAMED.some((row) => row.path === path)
const hasEcho = ({ path }: Row): boolean => path.endsWith('/completions')

const KINDS = [
  { kind: 'streamed', of: STREAMED, fields: { stream: true } },
  // By another name than the engine's: frame by frame through the router's hands.
  { kind: 'streamed, edited', of: STREAMED, fields: { stream: true }, model: 'matrix-alias' },
  { kind: 'not streamed', of: ALL, fields: {} },
  // Goes upstream without a stream, as what generates nothing does: the answer comes in one piece.
  { kind: 'not streamable', of: ALL.filter(hasEcho), fields: { echo: true } },
]

/** What generates nothing has nothing to wait for but its headers. */
const CASES = KINDS.flatMap(({ kind, of, fields, model = 'matrix' }) =>
  of.flatMap((row) =>
    MOMENTS.filter((_, at) => at === 0 || generates(row)).map((moment) => ({
      ...moment,
      path: row.path,
      kind,
      stream: 'stream' in fields,
      body: row.body(model, `leave ${kind}`, { ...fields, max_tokens: LONG }),
    })),
  ),
)

describe('a tenant who leaves', () => {
  it.each(CASES)('$when ($path, $kind) frees the instance', async (one) => {
    const { prepare, reached, path, body, stream } = one
    const sim = stack.sims['m1']!
    sim.clearRequests()
    await prepare(sim)
    try {
      const before = left(await stack.pool('matrix'))
      const leaving = new AbortController()
      const { signal } = leaving
      const opened = open(stack.url + path, { headers: keyOf(stack), body, signal })
      opened.catch(() => undefined)
      await reached(sim, opened, stream)
      const record = await onlyRequest(sim)
      expect(record.socketClosedAt).toBeNull()
      expect(inFlight(await stack.pool('matrix'))).toBe(1) // held before anything came back (L06)

      const leftAt = Date.now()
      leaving.abort()
      await eventually(
        () => record.socketClosedAt,
        (closed) => closed !== null,
      )
      expect(record.socketClosedAt! - leftAt).toBeLessThan(1_000)
      await eventually(
        () => sim.state(),
        ({ running, waiting }) => running + waiting === 0,
        1_000,
      )
      const { ended } = await settled('matrix', before)
      expect(ended.lost).toBe(0)
      expect(generating(sim)).toHaveLength(1) // nobody else was asked for someone who has left
    } finally {
      await sim.setFault(null)
      sim.setProfile(FLOWING)
    }
  })

  it.each(STREAMED)('by a reset rather than a close frees it as well ($path)', async (row) => {
    const sim = stack.sims['m1']!
    sim.clearRequests()
    sim.setProfile(FLOWING)
    const before = left(await stack.pool('matrix'))
    const body = row.body('matrix', 'reset', { stream: true, max_tokens: LONG })
    const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
    await opened.until(/data: /)
    opened.leave('reset')
    const record = await onlyRequest(sim)
    await eventually(
      () => record.socketClosedAt,
      (closed) => closed !== null,
      1_000,
    )
    expect((await settled('matrix', before)).ended.lost).toBe(0)
  })

  it.each([true, false])(
    'while a second instance is being tried frees both (stream %s)',
    async (stream) => {
      const [first, second] = [stack.sims['p1']!, stack.sims['p2']!]
      for (const sim of [first, second]) sim.clearRequests()
      await first.setFault({ kind: 'status', status: 503 })
      await second.setFault({ kind: 'hang', scope: 'inference' })
      try {
        const before = left(await stack.pool('pair'))
        const leaving = new AbortController()
        // Two, one after the other: whoever has the turn, one of them meets the 503 first.
        for (let i = 0; i < 2; i++) {
          const { signal } = leaving
          const headers = keyOf(stack)
          const body = CHAT.body('pair', 'leave', { stream })
          open(stack.url + CHAT.path, { headers, body, signal }).catch(() => undefined)
          await eventually(
            () => generating(second).length,
            (seen) => seen === i + 1,
          )
        }
        expect(generating(first).length).toBeGreaterThan(0)
        leaving.abort()
        await eventually(
          () => generating(second).map(({ socketClosedAt }) => socketClosedAt),
          (closed) => closed.every((at) => at !== null),
          1_000,
        )
        await eventually(
          () => stack.pool('pair'),
          (status) => inFlight(status) === 0 && left(status) === before + 2,
        )
      } finally {
        await first.setFault(null)
        await second.setFault(null)
      }
    },
  )

  it('at any moment of its first milliseconds leaves nothing behind', async () => {
    const sim = stack.sims['s1']!
    const before = await stack.pool('storm')
    const storm = Array.from({ length: 120 }, async (_, i) => {
      const row = ALL[i % ALL.length]!
      const leaving = new AbortController()
      const body = row.body('storm', `storm ${i}`, { stream: i % 4 < 2, max_tokens: 400 })
      const opened = open(stack.url + row.path, {
        headers: keyOf(stack),
        body,
        signal: leaving.signal,
      }).then(({ ended }) => ended)
      opened.catch(() => undefined)
      await sleep((i % 40) * 1.5)
      leaving.abort()
    })
    await Promise.all(storm)
    const after = await eventually(
      () => stack.pool('storm'),
      (status) => inFlight(status) === 0,
    )
    await eventually(
      () => sim.state(),
      ({ running, waiting, inFlight }) => running + waiting + inFlight === 0,
    )
    expect(after.ended.lost - before.ended.lost).toBe(0)
    // The pool is as good as new.
    const row = CHAT
    const body = row.body('storm', 'after the storm', { max_tokens: 2 })
    expect((await ask(stack.url + row.path, { headers: keyOf(stack), body })).status).toBe(200)
  })
})
