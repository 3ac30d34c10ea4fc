import { describe, expect, it } from 'vitest'
import type { ErrorBody } from './acme.ts'
import { body, chat, created, keyOf, refused, told, withPlans } from './operator.ts'
import { operate } from './world.ts'

withPlans()

describe('a tenant', () => {
  it('is created with plan, overrides and budget, and shown with what holds', async () => {
    const said = await created('whole', {
      plan: 'pro',
      overrides: { rpm: 7, tpm: 'unlimited', models: ['gpt-4o-mini'] },
      budget: { monthly: 50, stop: true },
    })
    expect(said).toMatchObject({ id: 'whole', plan: 'pro', overrides: { tpm: 'unlimited' } })
    expect((await told('GET', '/tenants/whole')).said).toMatchObject({
      plan: 'pro',
      planMissing: false,
      limits: { rpm: 7, tpm: null, tokensPerMonth: 1_000_000, concurrency: null },
      models: ['m'],
      overrides: { rpm: 7, tpm: 'unlimited', models: ['m'] },
      budget: { monthly: 50, stop: true },
      suspended: null,
      running: 0,
    })
  })

  it('may have no plan, and then no limits', async () => {
    await created('free-of-all')
    const { said } = await told('GET', '/tenants/free-of-all')
    expect(said).toMatchObject({ plan: null, limits: { rpm: null }, models: ['*'] })
  })

  it('changes in what is named; null takes an override away', async () => {
    await created('changing', {
      plan: 'free',
      overrides: { rpm: 5, concurrency: 3 },
      budget: { monthly: 10, stop: true },
    })
    const patch = async (change: object) => (await told('PATCH', '/tenants/changing', change)).said
    expect(await patch({ overrides: { rpm: null }, budget: { monthly: 20 } })).toMatchObject({
      plan: 'free',
      overrides: { concurrency: 3 },
      limits: { rpm: 2, concurrency: 3 },
      budget: { monthly: 20, stop: true },
    })
    expect(await patch({ plan: 'pro', overrides: null })).toMatchObject({
      plan: 'pro',
      overrides: {},
      limits: { rpm: 600, concurrency: null },
      budget: { monthly: 20, stop: true },
    })
    expect(await patch({ plan: null, budget: null })).toMatchObject({ plan: null, budget: null })
  })

  it('takes the changes of many operators at once, and loses none', async () => {
    await created('contested')
    const changes = [
      { overrides: { rpm: 5 } },
      { overrides: { tpm: 6 } },
      { overrides: { concurrency: 7 } },
      { budget: { monthly: 10 } },
      { plan: 'pro' },
    ]
    await Promise.all(changes.map((change) => told('PATCH', '/tenants/contested', change)))
    expect((await told('GET', '/tenants/contested')).said).toMatchObject({
      plan: 'pro',
      overrides: { rpm: 5, tpm: 6, concurrency: 7 },
      budget: { monthly: 10 },
    })
  })

  it('is suspended, resumed and deleted, and its next request knows', async () => {
    await created('stopped')
    const { key } = await keyOf('stopped')
    expect((await chat(key)).status).toBe(200)
    const { said } = await told('PATCH', '/tenants/stopped', { suspended: { reason: 'unpaid' } })
    expect(said).toMatchObject({ suspended: { at: expect.any(Number), reason: 'unpaid' } })
    const again = await told('PATCH', '/tenants/stopped', { suspended: true, now: true })
    expect(again.said['suspended']).toEqual(said['suspended'])
    const response = await chat(key)
    expect([response.status, (await response.json<ErrorBody>()).error.code]).toEqual([
      403,
      'tenant_suspended',
    ])
    await told('PATCH', '/tenants/stopped', { suspended: false })
    expect((await chat(key)).status).toBe(200)
    const deleted = await told('DELETE', '/tenants/stopped')
    expect(deleted).toEqual({ status: 200, said: { id: 'stopped', deleted: true } })
    expect((await chat(key)).status).toBe(401)
    expect(await refused('GET', '/tenants/stopped')).toMatchObject({ code: 'tenant_not_found' })
  })

  it('is in the list, page by page', async () => {
    for (const id of ['list-a', 'list-b', 'list-c']) await created(id, { plan: 'free' })
    const first = await told('GET', '/tenants?prefix=list-&limit=2')
    expect(first.said).toMatchObject({
      tenants: [
        { id: 'list-a', plan: 'free', suspended: false },
        { id: 'list-b', plan: 'free' },
      ],
      next: 'list-b',
    })
    const { said } = await told('GET', '/tenants?prefix=list-&limit=2&after=list-b')
    expect(said).toMatchObject({ tenants: [{ id: 'list-c' }], next: null })
  })

  it.each([
    [{ id: 'x', plan: 'prx' }, 'plan', /no plan "prx": it has free, pro; did you mean pro\?/],
    [{ id: 'x', plna: 'pro' }, 'plna', /unknown key plna; did you mean plan\?/],
    [{ id: 'X' }, 'id', /lower-case letters/],
    [{ plan: 'pro' }, 'id', /id: is missing/],
    [{ id: 'x', overrides: { rpm: 0 } }, 'overrides.rpm', /at least 1, "unlimited", or null/],
    [
      { id: 'x', overrides: { tokens_per_day: 5 } },
      'overrides.tokens_per_day',
      /did you mean tokensPerDay/,
    ],
    [{ id: 'x', overrides: { models: ['n'] } }, 'overrides.models', /no model "n"; did you mean m/],
    [{ id: 'x', overrides: { models: ['q*'] } }, 'overrides.models', /"q\*" matches no model/],
    [{ id: 'x', overrides: { class: 'batsh' } }, 'overrides.class', /did you mean batch/],
    [{ id: 'x', budget: { monthly: 0 } }, 'budget.monthly', /more than 0/],
  ])('is not created by %j', async (input, param, message) => {
    const answer = await refused('POST', '/tenants', input)
    expect(answer).toEqual({
      status: 400,
      code: 'invalid_value',
      param,
      message: expect.stringMatching(message) as string,
    })
  })

  it.each([
    ['PATCH', '/tenants/refusing', { now: true }, 400, 'now'],
    ['PATCH', '/tenants/refusing', { suspended: false, now: true }, 400, 'now'],
    ['PATCH', '/tenants/refusing', { suspended: 'yes' }, 400, 'suspended'],
    ['PATCH', '/tenants/refusing', { budget: { stop: true } }, 400, 'budget.monthly'],
    ['PATCH', '/tenants/refusing', { id: 'other' }, 400, 'id'],
    ['PATCH', '/tenants/ghost', { plan: null }, 404, null],
    ['DELETE', '/tenants/ghost', undefined, 404, null],
    ['GET', '/tenants/NO_NAME', undefined, 404, null],
    ['GET', '/tenants?limit=0', undefined, 400, 'limit'],
    ['GET', '/tenants?limit=1001', undefined, 400, 'limit'],
  ])('%s %s with %j is refused', async (method, path, input, status, param) => {
    await operate('POST', '/tenants', body({ id: 'refusing' }))
    expect(await refused(method, path, input)).toMatchObject({ status, param })
  })
})
