/** What happens to a request when a fleet version, a deploy or a reset overtakes it. */
import { beforeAll, expect, it, vi } from 'vitest'
import { fleet, FLEET, operate, pool, poolConfig, send } from './world.ts'

const CHAT = '/v1/chat/completions'
let key = ''
beforeAll(async () => {
  await fleet().apply({ yaml: FLEET, ifVersion: null })
  await operate('POST', '/tenants', '{"id":"acme"}')
  const created = await operate('POST', '/tenants/acme/keys')
  key = (await created.json<{ key: string }>()).key
})

const ask = (model: string, path = CHAT) =>
  send(path, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: [] }),
  })

it('a model works as soon as it is applied, by its name and at its path', async () => {
  expect((await ask('m')).status).toBe(200)
  const more = `${FLEET}  later: { path: /later, arms: [{ pool: p }] }\n`
  expect(await fleet().apply({ yaml: more, ifVersion: 1 })).toMatchObject({ version: 2 })
  const answer = await ask('later')
  expect(answer.status).toBe(200)
  expect(answer.headers.get('x-penstock-fleet')).toBe('2')

  const evenMore = more.replace('later', 'latest').replace('/later', '/latest')
  expect(await fleet().apply({ yaml: evenMore, ifVersion: 2 })).toMatchObject({ version: 3 })
  await vi.waitFor(async () => expect((await ask('', `/latest${CHAT}`)).status).toBe(200))
})

it('a pool that is ahead of the fleet object goes on serving: its own version counts', async () => {
  const { servedAs, ...rest } = poolConfig({ version: 99 })
  await pool('p').configure({ ...rest, servedAs })
  await pool('p').status()
  const answer = await ask('m')
  expect(answer.status).toBe(200)
  expect(answer.headers.get('x-penstock-fleet')).toBe('99')
})
