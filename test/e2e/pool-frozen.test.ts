/** Engines that stand still while their server says that all is well, and engines that only seem to (L07). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { eventsOf, isWhole } from '../support/e2e-api.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import {
  allReady,
  becomes,
  chat,
  chatOpen,
  instanceStatus,
  many,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Three readings of a standstill, two looks, one small request that stays unanswered, and some air. */
const OUT_WITHIN_MS = 11_000

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...['stuck', 'late'].flatMap((pool) =>
        ['good', 'bad'].map((name) => ({
          id: `${pool}-${name}`,
          pool,
          options: { profile: QUICK },
        })),
      ),
      { id: 'prefill-only', pool: 'prefill', options: { profile: QUICK, maxModelLen: 20_000 } },
    ],
    fleet: {
      defaults: {
        health: { every: '1s', timeout: '990ms' },
        timeouts: { first_byte: '60s', idle: '60s' },
        slow_start: '0s',
      },
    },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const states = async (pool: string): Promise<string[]> =>
  (await poolStatus(stack, pool)).instances.map(({ state }) => state)

/** Sends requests until one is on each instance. */
const oneOnEach = async (pool: string, text: string, question: object = {}) => {
  const streams = await Promise.all(
    [0, 1].map(() => chatOpen(stack, pool, { text, ...question }).then((stream) => stream)),
  )
  const onBad = streams.findIndex((it) => it.headers['x-penstock-instance'] === `${pool}-bad`)
  expect(onBad).not.toBe(-1)
  return { onBad: streams[onBad]!, onGood: streams[1 - onBad]! }
}

const bodies = (sim: Sim): unknown[] => tenantsAt(sim).map(({ body }) => body)

describe('a frozen engine', () => {
  it.concurrent('is found out, loses what it has not begun, and ends what it has', async () => {
    const [good, bad] = [stack.sims['stuck-good']!, stack.sims['stuck-bad']!]
    for (const sim of [good, bad]) sim.setProfile({ itlBaseMs: 200 })
    const { onBad, onGood } = await oneOnEach('stuck', 'begun', { max_tokens: 100 })
    await onBad.until(/data: [^]*data: /)
    // What comes now is not begun before the engine stands still.
    bad.setProfile({ ttftBaseMs: 600_000 })
    good.setProfile({ itlBaseMs: 10 })
    const unbegun: ReturnType<typeof chat>[] = []
    for (const stream of [true, false]) {
      for (const i of [0, 1])
        unbegun.push(chat(stack, 'stuck', { text: `unbegun ${stream} ${i}`, stream }))
      // One of each kind for either: fewest in flight takes turns where both have as many.
      await eventually(
        () => JSON.stringify(bodies(bad)),
        (seen) => seen.includes(`unbegun ${stream}`),
      )
    }
    await bad.setFault({ kind: 'freeze' })
    const frozenAt = performance.now()
    const { status } = await fetch(`${bad.url}/health`)
    expect(status).toBe(200)

    await becomes(
      stack,
      ['stuck', 'stuck-bad'],
      ({ state }) => state === 'suspect' || state === 'down',
      OUT_WITHIN_MS,
    )
    const had = tenantsAt(bad).length
    await many(12, 3, () => chat(stack, 'stuck'))
    expect(tenantsAt(bad)).toHaveLength(had)
    const { reason } = await becomes(
      stack,
      ['stuck', 'stuck-bad'],
      ({ state }) => state === 'down',
      OUT_WITHIN_MS,
    )
    expect(performance.now() - frozenAt).toBeLessThan(OUT_WITHIN_MS)
    expect(reason).toMatch(/stands still/)

    const answers = await Promise.all(unbegun)
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200, 200])
    const moved = answers.filter(({ headers }) => headers['x-penstock-attempts'] === '2')
    expect(moved).toHaveLength(2)
    for (const { headers } of moved) {
      expect(headers['x-penstock-instance']).toBe('stuck-good')
      expect(headers['x-penstock-reason']).toContain('stuck-bad: ')
    }
    const { text, complete } = await onBad.ended
    expect(complete).toBe(true)
    expect(eventsOf(text).at(-1)).toMatch(/"error".*"code":"upstream_/)
    expect(text).not.toContain('[DONE]')
    expect(performance.now() - frozenAt).toBeLessThan(OUT_WITHIN_MS + 5_000) // and not after `idle`
    expect(isWhole((await onGood.ended).text)).toBe(true)
    expect(await states('stuck')).toEqual(['ready', 'down'])

    bad.setProfile(QUICK)
    await bad.setFault(null)
    await becomes(stack, ['stuck', 'stuck-bad'], ({ state }) => state === 'ready')
    await eventually(
      async () => {
        expect((await chat(stack, 'stuck')).status).toBe(200)
        return tenantsAt(bad).length
      },
      (count) => count > had,
    )
  })

  it.concurrent('is not one that is slow to begin: it answers a small request', async () => {
    const bad = stack.sims['late-bad']!
    await bad.setFault({ kind: 'late-start', ms: 9_000, times: 1 })
    const answers = [0, 1].map(() => chat(stack, 'late'))
    const seen: string[] = []
    await eventually(
      async () => {
        seen.push((await instanceStatus(stack, 'late', 'late-bad')).state)
        return bad.state().running
      },
      (running) => running === 0 && seen.length > 20,
      15_000,
    )
    // It was looked at closely, and acquitted.
    const small = bad.requests().filter(({ path }) => path === '/v1/completions')
    expect(small.length).toBe(2) // the first one when it was new
    expect(seen).not.toContain('down')
    for (const { status, headers } of await Promise.all(answers)) {
      expect({ status, attempts: headers['x-penstock-attempts'] }).toEqual({
        status: 200,
        attempts: '1',
      })
    }
  })

  it.concurrent('is not one that reads a long prompt', async () => {
    const sim = stack.sims['prefill-only']!
    sim.setProfile({ prefillMsPerToken: 1 })
    const answer = chat(stack, 'prefill', { text: 'word '.repeat(12_000) })
    const seen = new Set<string>()
    let over = false
    void answer.finally(() => (over = true))
    while (!over) {
      for (const state of await states('prefill')) seen.add(state)
      await sleep(50)
    }
    const { status, headers } = await answer
    expect({ status, attempts: headers['x-penstock-attempts'] }).toEqual({
      status: 200,
      attempts: '1',
    })
    expect(seen).not.toContain('down')
    const [record] = tenantsAt(sim)
    expect(record!.firstByteAt! - record!.arrivedAt).toBeGreaterThan(10_000) // it was a long one
  })
})
