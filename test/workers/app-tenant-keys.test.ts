import { describe, expect, it } from 'vitest'
import { body, chat, created, keyOf, refused, told, withPlans } from './operator.ts'
import { operate } from './world.ts'

withPlans()

describe('a key', () => {
  it('has an end, models, limits and addresses of its own', async () => {
    await created('keys')
    const before = Date.now()
    const made = (await keyOf('keys', {
      name: 'ci',
      expires: '30d',
      models: ['org/m'],
      rpm: 5,
      addresses: ['192.0.2.0/24', '2001:db8::1'],
      budget: { monthly: 3 },
    })) as { key: string; id: string; expires: number }
    expect(made).toMatchObject({
      tenant: 'keys',
      name: 'ci',
      revoked: null,
      limits: {
        rpm: 5,
        tpm: null,
        models: ['m'],
        addresses: ['192.0.2.0/24', '2001:db8::1'],
        budget: { monthly: 3, stop: false },
      },
    })
    expect(made.expires - before).toBeGreaterThanOrEqual(30 * 86_400_000)
    expect((await chat(made.key)).status, 'from nowhere').toBe(403)
    const { keys } = (await told('GET', '/tenants/keys/keys')).said as { keys: object[] }
    expect(keys).toMatchObject([{ id: made.id, limits: { rpm: 5 } }])
    expect(JSON.stringify(keys)).not.toMatch(/psk_|hash/)
  })

  it('is rotated: the new one works, the old one until its grace is over', async () => {
    await created('rotating')
    const old = await keyOf('rotating', { name: 'web', rpm: 9 })
    const first = await told('POST', `/tenants/rotating/keys/${old.id}/rotate`, {})
    expect(first.said).toMatchObject({ name: 'web', limits: { rpm: 9 }, revoked: null })
    expect([first.status, (await chat(old.key)).status]).toEqual([201, 200])
    const at = `/tenants/rotating/keys/${String(first.said['id'])}/rotate`
    const second = await told('POST', at, { grace: '0s' })
    expect((await chat(String(first.said['key']))).status).toBe(401)
    expect((await chat(String(second.said['key']))).status).toBe(200)
    expect(await refused('POST', at, {})).toMatchObject({ status: 404, code: 'key_not_found' })
  })

  it('is rotated once; a second time names its successor', async () => {
    await created('twice')
    const old = await keyOf('twice')
    const at = `/tenants/twice/keys/${old.id}/rotate`
    const first = (await told('POST', at, { grace: '1h' })).said
    expect(first).toMatchObject({ old: { id: old.id, expires: expect.any(Number) } })
    expect(JSON.stringify(first['old'])).not.toContain('hash')
    expect(await refused('POST', at, {})).toMatchObject({
      status: 409,
      code: 'key_replaced',
      message: expect.stringContaining(`"${String(first['id'])}"`) as string,
    })
  })

  it.each([
    [{ expires: 'soon' }, 'expires', /a duration or a time: 30d/],
    [{ expires: '2026-02-31' }, 'expires', /a duration or a time/],
    [{ expires: 1_700_000_000 }, 'expires', /in the future; that is 1970/],
    [{ expires: 9_000_000_000_000_000 }, 'expires', /before the year 10000/],
    [{ expires: '999999w' }, 'expires', /before the year 10000/],
    [{ name: 'two\nlines' }, 'name', /one line of text/],
    [{ name: '\u001B[2Jred' }, 'name', /one line of text/],
    [{ expires: '2020-01-01' }, 'expires', /in the future; that is 2020-01-01/],
    [{ addresses: ['10.0.0.0/33'] }, 'addresses.0', /address or a network/],
    [{ addresses: [] }, 'addresses', /at least one/],
    [{ rpm: 'many' }, 'rpm', /whole number/],
    [{ models: ['n'] }, 'models', /no model "n"/],
    [{ nmae: 'x' }, 'nmae', /did you mean name/],
  ])('is not created by %j', async (input, param, message) => {
    await operate('POST', '/tenants', body({ id: 'bad-keys' }))
    expect(await refused('POST', '/tenants/bad-keys/keys', input)).toMatchObject({
      status: 400,
      param,
      message: expect.stringMatching(message) as string,
    })
  })

  it('is rotated and revoked by words that are understood alone', async () => {
    await operate('POST', '/tenants', body({ id: 'bad-keys' }))
    const { id } = await keyOf('bad-keys')
    const path = `/tenants/bad-keys/keys/${id}`
    expect(await refused('POST', `${path}/rotate`, { grace: 'a day' })).toMatchObject({
      param: 'grace',
    })
    expect(await refused('DELETE', `${path}?now=yes`)).toMatchObject({ param: 'now' })
    expect((await told('DELETE', `${path}?now=true`)).said).toMatchObject({
      id,
      revoked: expect.any(Number),
    })
  })
})
