/** What operators can see: why a request goes where it goes, and every pool's figures, twice the same. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type {
  ExplainedInstance,
  Explanation,
  PoolStatus,
} from '../../durable-objects/pool/contract.ts'
import { ask } from '../support/e2e-http.ts'
import {
  allReady,
  chat,
  chatOpen,
  many,
  operator,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { pageOf, type Page } from '../support/pool-metrics.ts'
import { startStack, type Stack } from '../support/stack.ts'

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...['a', 'b', 'c'].map((name) => ({
        id: `plain-${name}`,
        pool: 'plain',
        options: { profile: QUICK, promptTokensDetails: true },
      })),
      ...['idle', 'full', 'drained'].map((name) => ({
        id: `odd-${name}`,
        pool: 'odd',
        slots: 1,
        options: { profile: QUICK },
      })),
      { id: 'spare-1', pool: 'spare', options: { profile: QUICK } },
    ],
    pools: { plain: { policy: 'adaptive', breaker: {}, queue: { max: 16 } } },
    fleet: {
      defaults: { health: { every: '1s', timeout: '990ms' } },
      models: {
        plain: { arms: [{ pool: 'plain' }], fallback: ['spare'] },
        odd: { arms: [{ pool: 'odd' }] },
        spare: { arms: [{ pool: 'spare' }] },
      },
    },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

type Explained = Explanation & {
  readonly model: string
  readonly pool: string
  readonly fallbacks: readonly Explained[]
  readonly request: { readonly promptTokens: number; readonly hashedTokens: number }
}

const explain = async (body: object, more: object = {}): Promise<Explained> => {
  const said = await operator(stack, 'POST', '/admin/explain', {
    body: { body, tenant: 'test', ...more },
  })
  expect(said).toMatchObject({ status: 200 })
  return said.json as unknown as Explained
}

const totalOf = ({ scores }: ExplainedInstance): number =>
  scores.reduce((sum, { value, weight }) => sum + value * weight, 0)

const sentAnywhere = (): number =>
  Object.values(stack.sims).reduce((sum, sim) => sum + tenantsAt(sim).length, 0)

describe('an explanation', () => {
  it('tells each scorer of each candidate, and the next request goes where it said', async () => {
    const text = 'the water above the valley falls through a gated pipe '.repeat(40)
    for (let turn = 0; turn < 6; turn++) {
      const messages = [{ role: 'user', content: turn % 2 === 0 ? text : `${turn} ${text}` }]
      const before = sentAnywhere()
      const posts = () =>
        stack.sims['plain-a']!.requests().filter(({ method }) => method === 'POST')
      const looks = posts().length
      const said = await explain({ model: 'plain', messages, max_tokens: 4 })
      expect(await explain({ model: 'plain', messages, max_tokens: 4 })).toMatchObject({
        instance: said.instance, // asking changes nothing
      })
      expect(sentAnywhere()).toBe(before)
      expect(posts()).toHaveLength(looks)

      expect(said).toMatchObject({ model: 'plain', pool: 'plain', policy: 'adaptive' })
      expect(said.outcome).toBe('picked')
      expect(said.request.promptTokens).toBeGreaterThan(300)
      expect(said.request.hashedTokens).toBeGreaterThan(256)
      expect(said.instances.map(({ id }) => id)).toEqual(['plain-a', 'plain-b', 'plain-c'])
      const best = Math.max(...said.instances.map(({ total }) => total!))
      for (const instance of said.instances) {
        expect(instance.droppedBy).toBeNull()
        expect(instance.scores.length).toBeGreaterThanOrEqual(4)
        for (const { value } of instance.scores) {
          expect(value).toBeGreaterThanOrEqual(0)
          expect(value).toBeLessThanOrEqual(1)
        }
        expect(instance.total).toBeCloseTo(totalOf(instance))
        if (instance.id === said.instance) expect(instance.total).toBe(best)
      }
      expect(said.fallbacks.map(({ pool, outcome }) => ({ pool, outcome }))).toEqual([
        { pool: 'spare', outcome: 'picked' },
      ])

      const got = await chat(stack, 'plain', { messages })
      expect(got.headers['x-penstock-instance']).toBe(said.instance)
      const reason = String(got.headers['x-penstock-reason'])
      if (said.expectedHitTokens > 0)
        expect(reason).toBe(`adaptive; prefix ${said.expectedHitTokens} tokens`)
      else expect(reason).toBe('adaptive')
      if (turn > 0 && turn % 2 === 0) expect(said.expectedHitTokens).toBeGreaterThan(256)
    }
  })

  it('tells which filter left an instance out', async () => {
    await operator(stack, 'POST', '/admin/pools/odd/instances/odd-drained/drain')
    const first = await chatOpen(stack, 'odd')
    const held = first.headers['x-penstock-instance']
    const other = held === 'odd-idle' ? 'odd-full' : 'odd-idle'
    const said = await explain({ model: 'odd', messages: [] })
    const dropped = Object.fromEntries(said.instances.map(({ id, droppedBy }) => [id, droppedBy]))
    expect(dropped).toEqual({ 'odd-drained': 'ready', [String(held)]: 'free-slot', [other]: null })
    expect(said).toMatchObject({ outcome: 'picked', instance: other, fallbacks: [] })

    const second = await chatOpen(stack, 'odd')
    expect(second.headers['x-penstock-instance']).toBe(other)
    expect(await explain({ model: 'odd', messages: [] })).toMatchObject({
      outcome: 'busy',
      instance: null,
    })
    for (const stream of [first, second]) stream.leave('reset')
  })

  it.each([
    { asked: [], param: null, code: 'invalid_json' },
    { asked: {}, param: 'body', code: 'invalid_value' },
    { asked: { body: 'chat' }, param: 'body', code: 'invalid_value' },
    { asked: { body: {}, path: 1 }, param: 'path', code: 'invalid_value' },
    { asked: { body: {}, path: '/v1/nothing' }, param: 'path', code: 'invalid_value' },
    { asked: { body: {}, tenant: 1 }, param: 'tenant', code: 'invalid_value' },
    { asked: { body: {}, headers: { a: 1 } }, param: 'headers.a', code: 'invalid_value' },
    { asked: { body: { model: 'plain' }, plan: 'nope' }, param: 'plan', code: 'invalid_value' },
    { asked: { body: { model: 7 } }, param: 'model', code: 'invalid_value' },
  ])('refuses $asked, naming $param', async ({ asked, param, code }) => {
    const said = await operator(stack, 'POST', '/admin/explain', { body: asked })
    expect(said).toMatchObject({ status: 400, json: { error: { param, code } } })
  })

  it('is for operators, and of models that exist', async () => {
    const body = { body: { model: 'plain', messages: [] } }
    for (const token of [null, stack.apiKey, 'wrong']) {
      const said = await operator(stack, 'POST', '/admin/explain', { body, token })
      expect(said).toMatchObject({ status: 401, json: { error: { code: 'invalid_api_key' } } })
    }
    const unknown = { body: { model: 'nobody', messages: [] } }
    expect(await operator(stack, 'POST', '/admin/explain', { body: unknown })).toMatchObject({
      status: 404,
      json: { error: { code: 'model_not_found' } },
    })
  })
})

describe('the metrics', () => {
  const read = async (): Promise<Page> => {
    const got = await ask(`${stack.url}/metrics`, {
      headers: { authorization: `Bearer ${stack.adminToken}` },
    })
    expect(got.status).toBe(200)
    expect(got.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/)
    return pageOf(got.text)
  }

  it('are a page that Prometheus can read, and say what the pools say', async () => {
    await many(6, 2, () => chat(stack, 'plain', { text: 'count me' }))
    const page = await read()
    const { json } = await operator(stack, 'GET', '/admin/pools')
    const { pools } = json as unknown as { pools: readonly PoolStatus[] }
    expect(pools.map(({ pool }) => pool).toSorted()).toEqual(['odd', 'plain', 'spare'])
    for (const status of pools) {
      const { pool, queue, prefix, tokens, paths = [] } = status
      const of = (name: string, labels: object = {}) => page.value(name, { pool, ...labels })
      expect(of('penstock_pool_up')).toBe(1)
      expect(of('penstock_pool_fleet_version')).toBe(status.fleet)
      expect(of('penstock_requests_granted_total')).toBe(status.granted)
      for (const [ending, count] of Object.entries(status.ended))
        expect(of('penstock_requests_ended_total', { ending })).toBe(count)
      for (const [kind, count] of Object.entries(tokens!))
        expect(of('penstock_tokens_total', { kind })).toBe(count)
      expect(of('penstock_queue_max')).toBe(queue!.max)
      expect(of('penstock_queue_joined_total')).toBe(queue!.joined)
      expect(of('penstock_prefix_blocks')).toBe(prefix!.blocks)
      expect(of('penstock_prefix_compared_tokens_total', { kind: 'actual' })).toBe(prefix!.actual)
      for (const { site } of paths) expect(of('penstock_path_up', { site })).toBe(1)
      for (const one of status.instances) {
        const instance = { instance: one.id }
        expect(of('penstock_instance_state', { ...instance, state: one.state })).toBe(1)
        expect(of('penstock_instance_in_flight', instance)).toBe(one.inFlight)
        expect(of('penstock_instance_slots', instance)).toBe(one.slots)
        expect(of('penstock_instance_breaker_open', instance)).toBe(0)
      }
    }
    const plain = await poolStatus(stack, 'plain')
    expect(plain.granted).toBeGreaterThanOrEqual(6)
    expect(plain.queue!.max).toBe(16)
    expect(page.types.get('penstock_requests_granted_total')).toBe('counter')
    expect(page.types.get('penstock_instance_in_flight')).toBe('gauge')
  })

  it('move with what happens', async () => {
    const labels = { pool: 'spare' }
    const before = (await read()).value('penstock_requests_granted_total', labels)!
    const held = await chatOpen(stack, 'spare')
    const during = await read()
    expect(during.value('penstock_requests_granted_total', labels)).toBe(before + 1)
    expect(during.value('penstock_instance_in_flight', { ...labels, instance: 'spare-1' })).toBe(1)
    held.leave('reset')
  })

  it('are for operators', async () => {
    for (const authorization of [undefined, `Bearer ${stack.apiKey}`]) {
      const got = await ask(`${stack.url}/metrics`, { headers: { authorization } })
      expect(got.status).toBe(401)
      expect(got.text).not.toContain('penstock_')
    }
  })
})
