/** Objects change over to a new release one by one: the fleet's of one, the others of the other. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { BEFORE, befallen, here, released, withFleetOf } from '../releases/bundles.ts'
import { inFlight, isWhole, keyOf } from '../support/e2e-api.ts'
import { ask, open } from '../support/e2e-http.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const PAIRS = [
  { fleet: BEFORE, others: 'this tree' },
  { fleet: 'this tree', others: BEFORE },
]

/** What the fleet object of this tree tells pools and Workers of, and those of the one before do not know. */
const MORE = { guard: {}, shadow: { pool: 'other', share: 0.2 }, sticky: 'tenant' }

describe.each(PAIRS)('the fleet object of $fleet among objects of $others', ({ fleet, others }) => {
  let stack: Stack
  beforeAll(async () => {
    const [before, tree] = await Promise.all([released(BEFORE).then(befallen), here()])
    const objects = await (fleet === BEFORE ? withFleetOf(tree, before) : withFleetOf(before, tree))
    const paced = { profile: { ttftBaseMs: 10, itlBaseMs: 10, itlMsPerRunning: 0 } }
    const model = (weight: number) => ({
      arms: [
        { pool: 'pool', weight: 100 - weight },
        { pool: 'other', name: 'canary', weight },
      ],
    })
    stack = await startStack({
      bundles: { objects, worker: others === BEFORE ? before : tree },
      sims: ['pool', 'other'].map((pool) => ({ id: pool, pool, options: paced })),
      fleet: { models: { public: model(50), single: { arms: [{ pool: 'pool' }] } } },
    })
  })
  afterAll(() => stack?.stop())

  const stream = (seed: number, max_tokens: number) =>
    open(stack.url + CHAT.path, {
      headers: keyOf(stack),
      body: CHAT.body('public', 'objects', { stream: true, max_tokens, user: `user-${seed}` }),
    })

  it('serves both arms, and counts right', async () => {
    const streams = await Promise.all(Array.from({ length: 8 }, (_, i) => stream(i, 20)))
    const arms = new Set(streams.map(({ headers }) => headers['x-penstock-arm']))
    expect(arms).toEqual(new Set(['canary', 'stable']))
    for (const { ended } of streams) expect(isWhole((await ended).text)).toBe(true)
    await eventually(
      () => stack.admin.pools(),
      (pools) => pools.every((pool) => inFlight(pool) === 0),
    )
  })

  it('gives pools a new version while streams run, also one that says more than they know', async () => {
    const running = await Promise.all(Array.from({ length: 4 }, (_, i) => stream(i, 150)))
    await Promise.all(running.map((it) => it.until(/data: /)))
    const file = parse(stack.yaml) as { models: Record<string, object> }
    const more = fleet === BEFORE ? { aliases: ['another'] } : MORE
    const { public: model, ...models } = file.models
    await stack.admin.applyFleet(
      JSON.stringify({ ...file, models: { ...models, public: { ...model, ...more } } }),
    )
    const pools = await eventually(
      () => stack.admin.pools(),
      (seen) => seen.every((pool) => pool.fleet === 2),
    )
    expect(pools).toHaveLength(2)
    for (const it of running) expect(isWhole((await it.ended).text)).toBe(true)
    const after = await Promise.all(Array.from({ length: 8 }, (_, i) => stream(i, 10)))
    for (const it of after) {
      const { status, text } = await it.ended
      expect([status, isWhole(text)]).toEqual([200, true])
    }
    // What is asked of the one by the other while both live: how requests went, which version it is.
    const { status } = await ask(`${stack.url}/metrics`, {
      headers: { authorization: `Bearer ${stack.adminToken}` },
    })
    expect(status).toBe(200)
  })

  it('outlives resets of a pool, which asks the fleet object what it is', async () => {
    const running = await stream(1, 200)
    await running.until(/data: /)
    await stack.crashPool('pool')
    await stack.crashPool('other')
    expect(isWhole((await running.ended).text)).toBe(true)
    const { status } = await ask(stack.url + CHAT.path, {
      headers: keyOf(stack),
      body: CHAT.body('single', 'after', { max_tokens: 2 }),
    })
    expect(status).toBe(200)
  })
})
