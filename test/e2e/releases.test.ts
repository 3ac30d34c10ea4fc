/**
 * The release before beside this one, as in the minutes after a deploy and after a rollback: the Worker of one
 * with the objects of the other. What both know must work as if they were of one piece.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { generating, inFlight, isWhole, keyOf, textIn } from '../support/e2e-api.ts'
import { ask, open } from '../support/e2e-http.ts'
import { ALL, CHAT, STREAMED, type Row } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack, type StackOptions } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'
import { BEFORE, befallen, here, released } from '../releases/bundles.ts'

const PAIRS = [
  { worker: BEFORE, objects: 'this tree' },
  { worker: 'this tree', objects: BEFORE },
]
const bundleOf = async (release: string): Promise<string> =>
  release === BEFORE ? befallen(await released(BEFORE)) : here()

const SLOTS = 8
const FLEET: NonNullable<StackOptions['fleet']> = {
  billing: { currency: 'EUR' },
  plans: { free: { rpm: 2, models: ['pool'] }, pro: { rpm: 600, tpm: 100_000, concurrency: 8 } },
  models: {
    pool: {
      aliases: ['pool-alias'],
      arms: [
        { pool: 'pool', weight: 1 },
        { pool: 'narrow', name: 'canary', weight: 0 },
      ],
      price: { prompt: 2, completion: 8 },
    },
    narrow: { arms: [{ pool: 'narrow' }], fallback: ['pool'] },
    broken: { arms: [{ pool: 'broken' }], fallback: ['pool'] },
  },
}

describe.each(PAIRS)('the Worker of $worker with objects of $objects', ({ worker, objects }) => {
  let stack: Stack
  let tenants: Tenants
  let pro: string
  beforeAll(async () => {
    const paced = { profile: { ttftBaseMs: 20, itlBaseMs: 20, itlMsPerRunning: 0 } }
    stack = await startStack({
      bundles: { worker: await bundleOf(worker), objects: await bundleOf(objects) },
      sims: [
        { id: 'a', pool: 'pool', slots: SLOTS, options: paced },
        { id: 'b', pool: 'pool', slots: SLOTS, options: paced },
        { id: 'c', pool: 'narrow', slots: 1, options: paced },
        { id: 'd', pool: 'broken', slots: 1 },
      ],
      pools: { narrow: { queue: { max: 4, wait: '10s' } } },
      fleet: FLEET,
    })
    tenants = tenantsOf(stack)
    pro = await tenants.create('pro', { plan: 'pro' })
  })
  afterAll(() => stack?.stop())

  const admin = async (method: string, path: string, body?: object | string, version?: number) => {
    const { status, text } = await ask(`${stack.url}/admin${path}`, {
      method,
      headers: {
        authorization: `Bearer ${stack.adminToken}`,
        ...(version !== undefined && { 'if-match': String(version) }),
      },
      ...(body !== undefined && { body }),
    })
    return { status, body: JSON.parse(text) as Record<string, unknown> }
  }
  const call = (row: Row, body: object, key = stack.apiKey) =>
    ask(stack.url + row.path, { headers: keyOf({ apiKey: key }), body })
  const chat = (key: string, model = 'pool', fields = {}) =>
    call(CHAT, CHAT.body(model, 'side by side', { max_tokens: 3, ...fields }), key)
  const stream = (key: string, max_tokens: number, model = 'pool') => {
    const body = CHAT.body(model, 'side by side', { stream: true, max_tokens })
    return open(stack.url + CHAT.path, { headers: keyOf({ apiKey: key }), body })
  }
  const taken = async () =>
    (await stack.admin.pools()).reduce((sum, status) => sum + inFlight(status), 0)

  it('answers every endpoint, whole and streamed, by name and by alias', async () => {
    for (const model of ['pool', 'pool-alias', 'pool@canary']) {
      for (const row of ALL) {
        const { status, text } = await call(row, row.body(model, 'whole', { max_tokens: 4 }))
        expect([row.path, status, text.length > 0]).toEqual([row.path, 200, true])
      }
      for (const row of STREAMED) {
        const body = row.body(model, 'streamed', { stream: true, max_tokens: 4 })
        const { status, text } = await call(row, body)
        expect([row.path, status, isWhole(text), textIn(text) !== '']).toEqual([
          row.path,
          200,
          true,
          true,
        ])
      }
    }
    expect(await taken()).toBe(0)
  })

  it('lists the models that a tenant may use', async () => {
    const key = await tenants.create('reader', { plan: 'free' })
    const names = async (apiKey: string) => {
      const { text } = await ask(`${stack.url}/v1/models`, { headers: keyOf({ apiKey }) })
      return (JSON.parse(text) as { data: { id: string }[] }).data.map(({ id }) => id)
    }
    expect(await names(key)).toContain('pool')
    expect(await names(key)).not.toContain('narrow')
    expect(await names(stack.apiKey)).toEqual(expect.arrayContaining(['pool', 'narrow', 'broken']))
    expect((await chat(key, 'narrow')).status).toBe(403)
  })

  it('refuses beyond a limit, and says how much is left', async () => {
    const key = await tenants.create('free', { plan: 'free' })
    const answers = [await chat(key), await chat(key), await chat(key)]
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429])
    expect(answers.map(({ headers }) => headers['x-ratelimit-remaining-requests'])).toEqual([
      '1',
      '0',
      '0',
    ])
    await tenants.set('free', { plan: 'pro' })
    expect((await chat(key)).status).toBe(200)
  })

  it('ends a revoked key, and what runs by it where that was asked', async () => {
    const key = await tenants.create('leaver', { plan: 'pro' })
    const running = await stream(key, 2_000)
    await running.until(/data: /)
    await tenants.revokeKey('leaver', key, { now: true })
    expect(isWhole((await running.ended).text)).toBe(false)
    expect((await chat(key)).status).toBe(401)
    const next = await tenants.createKey('leaver', { rpm: 10 })
    expect((await chat(next)).status).toBe(200)
    expect((await chat(await tenants.rotateKey('leaver', next, '1h'))).status).toBe(200)
    await tenants.set('leaver', { suspended: true })
    expect((await chat(next)).status).toBe(403)
  })

  it('books what was used, and shows it to tenant and operator', async () => {
    const key = await tenants.create('user', { plan: 'pro' })
    expect((await chat(key, 'pool', { max_tokens: 5 })).status).toBe(200)
    await call(CHAT, CHAT.body('pool-alias', 'again', { stream: true, max_tokens: 4 }), key)
    await tenants.idle('user')
    const rows = await eventually(
      () => tenants.usage('user', 'month'),
      ([row]) => row?.requests === 2,
    )
    expect(rows).toMatchObject([{ model: 'pool', requests: 2, errors: 0, estimatedTokens: 0 }])
    const [row] = rows
    expect(row!.completionTokens).toBeGreaterThan(5)
    expect(row!.cost).toBeGreaterThan(0)
    const { text } = await ask(`${stack.url}/v1/usage`, { headers: keyOf({ apiKey: key }) })
    expect(text).toContain(String(row!.completionTokens))
    const all = await admin('GET', '/usage?by=month')
    expect(all.status).toBe(200)
    expect(JSON.stringify(all.body)).toContain('"user"')
  })

  it('carries streams over resets of their pool and of their tenant', async () => {
    const streams = await Promise.all(Array.from({ length: 6 }, () => stream(pro, 150)))
    await Promise.all(streams.map((it) => it.until(/data: /)))
    await stack.crashPool('pool')
    await stack.crashTenant('pro')
    for (const it of streams) {
      const { text, complete } = await it.ended
      expect(complete && isWhole(text)).toBe(true)
    }
    await tenants.idle('pro', 15_000)
    await eventually(taken, (left) => left === 0, 10_000)
    const { ended } = await stack.pool('pool')
    expect(ended.lost).toBe(0)
  })

  it('queues, frees the place of who leaves, and falls back', async () => {
    const running = await stream(pro, 1_000, 'narrow')
    await running.until(/data: /)
    const waits = chat(pro, 'narrow', { max_tokens: 2 })
    await eventually(
      () => stack.pool('narrow'),
      ({ queue }) => queue?.length === 1,
    )
    running.leave('reset')
    expect((await waits).status).toBe(200)
    const cut = generating(stack.sims['c']!).filter(({ outcome }) => outcome === 'aborted')
    expect(cut.length).toBeGreaterThan(0)
    await stack.sims['d']!.setFault({ kind: 'status', status: 500 })
    const helped = await chat(pro, 'broken')
    expect([helped.status, helped.headers['x-penstock-pool']]).toEqual([200, 'pool'])
  })

  it('drains and explains', async () => {
    const drained = await admin('POST', '/pools/pool/instances/a/drain')
    expect(drained.status).toBe(200)
    const seen = await Promise.all(Array.from({ length: 4 }, () => chat(stack.apiKey)))
    expect(seen.map(({ headers }) => headers['x-penstock-instance'])).toEqual(['b', 'b', 'b', 'b'])
    const why = await admin('POST', '/explain', { body: { model: 'pool', messages: [] } })
    expect(why).toMatchObject({ status: 200, body: { outcome: 'picked', instance: 'b' } })
    expect((await admin('POST', '/pools/pool/instances/a/undrain')).status).toBe(200)
  })

  it('knows operators by their tokens, and what each has done', async () => {
    const { body } = await admin('POST', '/tokens', { name: 'ann', role: 'viewer' })
    const headers = { authorization: `Bearer ${String(body['token'])}` }
    expect((await ask(`${stack.url}/admin/pools`, { headers })).status).toBe(200)
    expect((await ask(`${stack.url}/metrics`, { headers })).status).toBe(200)
    const body2 = { id: 'hers' }
    expect((await ask(`${stack.url}/admin/tenants`, { headers, body: body2 })).status).toBe(403)
    const audit = await admin('GET', '/audit')
    expect(JSON.stringify(audit.body)).toContain('ann')
  })

  it('takes a new fleet version, and goes back to the one before', async () => {
    const running = await stream(pro, 100)
    await running.until(/data: /)
    const file = stack.yaml
    const applied = await admin('PUT', '/fleet', file.replaceAll('pool-alias', 'another-alias'), 1)
    expect(applied).toMatchObject({ status: 200, body: { version: 2 } })
    expect(applied.body['pools']).toEqual(
      expect.arrayContaining([expect.objectContaining({ pool: 'pool', taken: true })]),
    )
    const asked = await eventually(
      () => chat(pro, 'another-alias'),
      ({ status }) => status === 200,
    )
    expect(asked.headers['x-penstock-fleet']).toBe('2')
    expect((await chat(pro, 'pool-alias')).status).toBe(404)
    expect((await admin('PUT', '/fleet', file, 1)).status).toBe(412)
    const back = await admin('POST', '/fleet/rollback', { version: 1 }, 2)
    expect(back).toMatchObject({ status: 200, body: { version: 3 } })
    await eventually(
      () => chat(pro, 'pool-alias'),
      ({ status }) => status === 200,
    )
    expect(isWhole((await running.ended).text)).toBe(true)
    const { body } = await admin('GET', '/fleet/versions')
    expect(body['versions']).toMatchObject([{ version: 3 }, { version: 2 }, { version: 1 }])
  })

  it('refuses an order that one of the two does not know, and goes on', async () => {
    const order = { order: 'start', steps: [50] }
    const { status, body } = await admin('POST', '/models/pool/arms/canary/rollout', order)
    const code = worker === BEFORE ? 'not_found' : 'router_unavailable'
    expect([status, body]).toMatchObject([worker === BEFORE ? 404 : 503, { error: { code } }])
    expect((await chat(pro)).headers['x-penstock-arm']).toBe('stable')
    const headers = { authorization: `Bearer ${stack.adminToken}` }
    expect((await ask(`${stack.url}/metrics`, { headers })).status).toBe(200)
  })

  it('serves a file that says more than the Worker knows; objects that do not know it refuse it', async () => {
    const { fleet, version } = await current()
    const { pool, ...others } = fleet.models
    const more = {
      ...pool,
      aliases: ['claude-*'],
      hosts: ['pool.example.com'],
      sticky: 'tenant',
      guard: {},
      shadow: { pool: 'narrow', share: 0.1 },
      rules: [{ when: { tenant: 'nobody' }, arm: 'canary' }],
    }
    const file = JSON.stringify({ ...fleet, models: { ...others, pool: more } })
    const applied = await admin('PUT', '/fleet', file, version)
    if (objects === BEFORE) {
      expect(applied).toMatchObject({ status: 400, body: { error: { code: 'invalid_fleet' } } })
    } else {
      expect(applied).toMatchObject({ status: 200, body: { version: version + 1 } })
      await eventually(
        () => chat(pro),
        ({ headers }) => headers['x-penstock-fleet'] === String(version + 1),
      )
    }
    for (let i = 0; i < 4; i++) {
      const { status, headers } = await chat(pro)
      expect([status, headers['x-penstock-arm']]).toEqual([200, 'stable'])
    }
  })

  async function current() {
    const { body } = await admin('GET', '/fleet')
    const file = parse(String(body['yaml'])) as { models: Record<string, object> }
    return { fleet: file, version: Number(body['version']) }
  }
})
