import { describe, expect, it, vi } from 'vitest'
import { body, chat, created, keyOf, refused, told, withPlans } from './operator.ts'
import { operate, send } from './world.ts'

withPlans()

describe('usage', () => {
  const used = async (id: string) => {
    await created(id, { plan: 'pro' })
    const { key, id: keyId } = await keyOf(id)
    await (await chat(key)).text()
    await vi.waitFor(async () => {
      const { said } = await told('GET', `/tenants/${id}/usage`)
      expect(said['data']).toHaveLength(1)
    })
    return { key, keyId }
  }

  it('of a tenant is told to operators, as JSON and as CSV', async () => {
    const { keyId } = await used('user-1')
    const { said } = await told('GET', '/tenants/user-1/usage?by=month')
    expect(said).toMatchObject({
      tenant: 'user-1',
      currency: 'EUR',
      timeZone: 'Europe/Berlin',
      by: 'month',
      from: expect.stringMatching(/^\d{4}-\d\d-01$/) as string,
      data: [{ key: keyId, model: 'm', requests: 1, errors: 0 }],
    })
    const csv = await operate('GET', '/tenants/user-1/usage?by=month&format=csv')
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8; header=present')
    const [head, line, end] = (await csv.text()).split('\r\n')
    expect(head).toMatch(/^tenant,period,key,model,requests,.*,cost,currency$/)
    expect(line).toMatch(new RegExp(`^user-1,\\d{4}-\\d\\d,${keyId},m,1,0,0,.*,EUR$`))
    expect(end).toBe('')
  })

  it('of all tenants comes a page of tenants at a time', async () => {
    const { keyId: second } = await used('user-2')
    const { keyId: third } = await used('user-3')
    const seen: string[] = []
    let path: string | null = '/usage?limit=3'
    while (path) {
      const { said } = await told('GET', path)
      const { data, next } = said as {
        data: { tenant: string; key: string }[]
        next: string | null
      }
      seen.push(...data.map(({ tenant, key }) => `${tenant} ${key}`))
      path = next === null ? null : `/usage?limit=3&after=${next}`
    }
    expect(seen).toEqual(expect.arrayContaining([`user-2 ${second}`, `user-3 ${third}`]))
    expect(new Set(seen).size).toBe(seen.length)
    const csv = await operate('GET', '/usage?limit=1&format=csv')
    await csv.text()
    expect(csv.headers.get('link')).toMatch(
      /^<\/admin\/usage\?limit=1&format=csv&after=[^>]+>; rel="next"$/,
    )
  })

  it('is told to the tenant itself, by its key', async () => {
    const { key, keyId } = await used('user-4')
    const response = await send('/v1/usage?by=month', {
      headers: { authorization: `Bearer ${key}` },
    })
    expect([response.status, await response.json()]).toEqual([
      200,
      {
        object: 'usage',
        tenant: 'user-4',
        plan: 'pro',
        currency: 'EUR',
        time_zone: 'Europe/Berlin',
        from: expect.any(String),
        to: expect.any(String),
        limits: {
          rpm: 600,
          tpm: 400_000,
          concurrency: null,
          tokens_per_day: null,
          tokens_per_month: 1_000_000,
          cost_per_month: null,
        },
        used: {
          running: 0,
          tokens_today: expect.any(Number),
          tokens_this_month: expect.any(Number),
          cost_this_month: expect.any(Number),
        },
        data: [
          {
            period: expect.stringMatching(/^\d{4}-\d\d$/),
            key: keyId,
            model: 'm',
            requests: 1,
            errors: 0,
            limited: 0,
            prompt_tokens: expect.any(Number),
            cached_tokens: expect.any(Number),
            completion_tokens: expect.any(Number),
            estimated_tokens: expect.any(Number),
            cost: expect.any(Number),
          },
        ],
      },
    ])
    expect((await send('/v1/usage')).status).toBe(401)
    expect((await send('/v1/usage', { method: 'POST' })).status).toBe(405)
  })

  it.each(['/tenants/ghost/usage', '/tenants/ghost/record'])(
    'of nobody is 404: %s',
    async (path) => {
      expect(await refused('GET', path)).toMatchObject({ status: 404, code: 'tenant_not_found' })
    },
  )

  it.each([
    ['by=week', 'by'],
    ['from=yesterday', 'from'],
    ['from=2026-11-02&to=2026-11-02', 'to'],
    ['from=2025-01-01&to=2026-12-01', 'from'],
    ['format=xml', 'format'],
  ])('is refused for %s', async (query, param) => {
    await operate('POST', '/tenants', body({ id: 'asking' }))
    expect(await refused('GET', `/tenants/asking/usage?${query}`)).toMatchObject({
      status: 400,
      param,
    })
  })
})
