/** A new fleet version while streams run: nothing is cut, and what it says holds at once. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { ask, open, type Open } from '../support/e2e-http.ts'
import { generating, inFlight, isWhole, keyOf } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const PROFILE = { ttftBaseMs: 5, itlBaseMs: 20, itlMsPerRunning: 0 }

let stack: Stack
let spare: Sim
beforeEach(async () => {
  spare = await startSim({ model: 'pool', profile: PROFILE })
  stack = await startStack({
    sims: ['a', 'b'].map((id) => ({ id, pool: 'pool', options: { profile: PROFILE } })),
  })
})
afterEach(async () => {
  await stack?.stop()
  await spare?.close()
})
const row = CHAT
const asked = (model: string, fields: object = {}) =>
  ask(stack.url + row.path, {
    headers: keyOf(stack),
    body: row.body(model, 'apply', { max_tokens: 2, ...fields }),
  })

/** Applies the running fleet with a change to it. */
async function apply(change: (fleet: FleetInput) => void): Promise<void> {
  const fleet = parse(stack.yaml) as FleetInput
  change(fleet)
  await stack.admin.applyFleet(stringify(fleet))
}

const streaming = (count: number, tokens: number): Promise<Open[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, seed) => {
      const body = row.body('pool', 'apply', { stream: true, max_tokens: tokens, seed })
      const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
      await opened.until(/data: /)
      return opened
    }),
  )

const finishWhole = async (streams: readonly Open[]): Promise<void> => {
  for (const { ended } of streams) {
    const { text, complete } = await ended
    expect(complete && isWhole(text)).toBe(true)
  }
}

const states = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await stack.pool('pool')).instances.map(({ id, state, inFlight: n }) => [id, `${state} ${n}`]),
  )

describe('apply', () => {
  it('cuts no stream; an instance that left gets nothing new and drains', async () => {
    const streams = await streaming(8, 100)
    const before = generating(stack.sims['b']!).length
    expect(before).toBeGreaterThan(0)
    await apply((fleet) => {
      const { pool } = fleet.pools
      pool!.instances = pool!.instances.filter(({ id }) => id !== 'b')
    })
    expect(await states()).toEqual({ a: 'ready 4', b: 'draining 4' })
    for (let i = 0; i < 6; i++) {
      const { status, headers } = await asked('pool')
      expect({ status, instance: headers['x-penstock-instance'] }).toEqual({
        status: 200,
        instance: 'a',
      })
    }
    expect(generating(stack.sims['b']!)).toHaveLength(before)
    await finishWhole(streams)
    await eventually(states, (now) => Object.keys(now).join() === 'a' && now['a'] === 'ready 0')
  })

  it('routes the very next request by the new version, though it came a moment after', async () => {
    for (let round = 0; round < 3; round++) {
      expect((await asked('pool')).status).toBe(200) // the old version is fresh in the router
      const name = `fresh-${round}`
      await apply((fleet) => {
        fleet.models[name] = {
          path: `/${name}`,
          aliases: [`${name}-alias`],
          arms: [{ pool: 'pool' }],
        }
      })
      for (const model of [name, `${name}-alias`]) {
        const { status, text } = await asked(model)
        expect({ status, text }).toMatchObject({ status: 200 })
      }
    }
  })

  it('a new path, and a new name in the list of models, are there at once', async () => {
    expect((await asked('pool')).status).toBe(200)
    await apply((fleet) => {
      fleet.models['fresh'] = { path: '/fresh', arms: [{ pool: 'pool' }] }
    })
    const models = await ask(`${stack.url}/v1/models/fresh`, { headers: keyOf(stack) })
    const list = await ask(`${stack.url}/fresh/v1/models`, { headers: keyOf(stack) })
    const chat = await ask(`${stack.url}/fresh${row.path}`, {
      headers: keyOf(stack),
      body: row.body('any', 'apply', { max_tokens: 1 }),
    })
    expect([models.status, list.status, chat.status]).toEqual([200, 200, 200])
  })

  it('a name that left is unknown on the very next request', async () => {
    await apply((fleet) => {
      fleet.models['old'] = { arms: [{ pool: 'pool' }] }
    })
    await eventually(
      async () => (await asked('old')).status,
      (status) => status === 200,
    )
    await apply(() => undefined)
    expect((await asked('old')).status).toBe(404)
  })

  it('an instance that moves to another port is another process: the old one drains', async () => {
    const streams = await streaming(8, 100)
    const before = generating(stack.sims['b']!).length
    await apply((fleet) => {
      const moved = fleet.pools['pool']!.instances.find(({ id }) => id === 'b')
      if (moved && 'url' in moved) moved.url = spare.url
    })
    const { instances } = await stack.pool('pool')
    expect(instances.filter(({ id }) => id === 'b')).toHaveLength(2)
    expect(inFlight(await stack.pool('pool'))).toBe(8)
    await eventually(
      async () => (await asked('pool')).headers['x-penstock-instance'],
      (instance) => instance === 'b',
    )
    expect(generating(spare).some(({ path }) => path === row.path)).toBe(true)
    expect(generating(stack.sims['b']!)).toHaveLength(before)
    await finishWhole(streams)
    await eventually(
      () => stack.pool('pool'),
      (status) => status.instances.length === 2 && inFlight(status) === 0,
    )
  })

  it('under load loses no request and cuts no stream', async () => {
    let over = false
    const statuses = new Set<number>()
    const answers: string[] = []
    const tenants = Array.from({ length: 6 }, async (_, i) => {
      while (!over) {
        const { status, text } = await asked('pool', { stream: i % 2 === 0, max_tokens: 4 })
        statuses.add(status)
        if (i % 2 === 0) answers.push(text)
      }
    })
    const streams = await streaming(6, 120)
    for (let round = 0; round < 8; round++) {
      await apply((fleet) => {
        const { pool } = fleet.pools
        pool!.policy = round % 2 === 0 ? 'round_robin' : 'least_inflight'
        const leaver = round % 3 === 0 ? 'b' : round % 3 === 1 ? 'a' : 'none'
        pool!.instances = pool!.instances
          .map((instance) => ({ ...instance, slots: 16 + round }))
          .filter(({ id }) => id !== leaver)
      })
    }
    await apply(() => undefined)
    await finishWhole(streams)
    over = true
    await Promise.all(tenants)
    // An instance that comes back is a new one, looked at before it is used: `ready` may take a moment,
    // and in that moment the other one carries on.
    expect([...statuses]).toEqual([200])
    expect(answers.every(isWhole)).toBe(true)
    await eventually(
      () => stack.pool('pool'),
      (status) => inFlight(status) === 0,
    )
  })
})
