import { reset } from 'cloudflare:test'
import { expect, it, vi } from 'vitest'
import type { VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { TenantRecord } from '../../durable-objects/tenant/contract.ts'
import type { ErrorBody } from './acme.ts'
import { FLEET, fleet, operate, send } from './world.ts'

const NEWER = `${FLEET}  n: { arms: [{ pool: p }] }\nplans: { pro: { rpm: 600 } }\n`

const put = (path: string, value: unknown) => operate('PUT', path, JSON.stringify(value))
const post = (path: string, value: unknown) => operate('POST', path, JSON.stringify(value))
const get = async <T>(path: string): Promise<T> => (await operate('GET', path)).json()
const code = async (response: Response) => (await response.json<ErrorBody>()).error.code
const models = (key: string) => send('/v1/models', { headers: { authorization: `Bearer ${key}` } })

const usageOf = (id: string) => get<{ data: object[] }>(`/tenants/${id}/usage?by=month`)

async function filled(): Promise<string> {
  await reset()
  await operate('PUT', '/fleet', FLEET)
  await operate('PUT', '/fleet', NEWER)
  await post('/tenants', { id: 'acme', plan: 'pro', overrides: { tpm: 'unlimited' } })
  const { key } = await (
    await post('/tenants/acme/keys', { name: 'first', rpm: 9 })
  ).json<{
    key: string
  }>()
  const answer = await send('/v1/chat/completions', {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hi' }] }),
  })
  await answer.text()
  await vi.waitFor(async () => expect((await usageOf('acme')).data).toHaveLength(1))
  return key
}

/** Without its revision, which goes by the clock: every one that is told is a later one. */
const snapshotNow = async () => ({ ...(await fleet().snapshot(0)), revision: null })

async function versionFiles(): Promise<VersionFile[]> {
  const { versions } = await get<{ versions: VersionFile[] }>('/fleet/versions')
  return Promise.all(versions.map(({ version }) => get<VersionFile>(`/fleet/versions/${version}`)))
}

it('what was taken and wiped is put back: keys work, totals and versions are the same', async () => {
  const key = await filled()
  const record = await get<TenantRecord>('/tenants/acme/record')
  expect(JSON.stringify(record), 'a hash alone').not.toContain(key)
  const before = { files: await versionFiles(), usage: await usageOf('acme') }
  const snapshot = await snapshotNow()

  await reset()
  expect(await get('/fleet/versions')).toEqual({ versions: [] })
  expect(await get('/tenants')).toEqual({ tenants: [], next: null })

  const restored = await post('/fleet/restore', { versions: before.files })
  expect([restored.status, await restored.json()]).toMatchObject([201, { version: 2 }])
  const tenant = await put('/tenants/acme/record', record)
  expect([tenant.status, await tenant.json()]).toEqual([201, { id: 'acme', keys: 1, usage: 1 }])

  expect({ files: await versionFiles(), usage: await usageOf('acme') }).toEqual(before)
  expect(await snapshotNow(), 'when a model was first named included').toEqual(snapshot)
  expect(await get('/tenants/acme/record')).toEqual(record)
  expect(await get('/tenants/acme')).toMatchObject({ plan: 'pro', limits: { rpm: 600, tpm: null } })
  expect(await get('/tenants')).toMatchObject({ tenants: [{ id: 'acme', plan: 'pro' }] })
  expect((await models(key)).status).toBe(200)
})

it('nothing that is there is overwritten, and only what can be read is put back', async () => {
  await filled()
  const record = await get<TenantRecord>('/tenants/acme/record')
  const versions = await versionFiles()
  expect(await code(await post('/fleet/restore', { versions }))).toBe('conflict')
  expect(await code(await put('/tenants/acme/record', record))).toBe('tenant_exists')
  expect(await code(await put('/tenants/other/record', record))).toBe('invalid_value')
  const broken = { ...record, id: 'other', keys: [{ ...record.keys[0], hash: 'x' }] }
  const refused = await put('/tenants/other/record', broken)
  expect((await refused.json<ErrorBody>()).error.param).toBe('keys.0.hash')

  await reset()
  const [last, ...older] = versions
  const unreadable = { ...last!, yaml: 'pools: 7' }
  const invalid = await post('/fleet/restore', { versions: [unreadable, ...older] })
  expect(await code(invalid)).toBe('invalid_fleet')
  const twice = await post('/fleet/restore', { versions: [last, last] })
  expect(await code(twice)).toBe('invalid_value')
  expect(await get('/fleet/versions')).toEqual({ versions: [] })
  const old = { ...older[0]!, yaml: 'pools: 7' }
  expect((await post('/fleet/restore', { versions: [last, old] })).status).toBe(201)
  expect(await get('/fleet/versions/1')).toMatchObject({ yaml: 'pools: 7' })
})

it('a long ledger goes page by page, both ways, and what is cut off is nobody yet', async () => {
  await filled()
  const record = await get<TenantRecord>('/tenants/acme/record')
  const [line] = record.usage ?? []
  const usage = ['a', 'b&c', 'd', 'e', 'f'].map((model) => ({ ...line!, model }))
  const long = { ...record, id: 'long', usage: usage.slice(0, 2) }
  const begun = await put('/tenants/long/record?more=true', long)
  expect([begun.status, await begun.json()]).toEqual([202, { id: 'long', keys: 1, usage: 2 }])
  expect((await operate('GET', '/tenants/long')).status).toBe(404)
  const more = { usage: usage.slice(2, 4) }
  expect((await put('/tenants/long/record/usage?more=true', more)).status).toBe(202)
  const last = await put('/tenants/long/record/usage', { usage: usage.slice(4) })
  expect([last.status, await last.json()]).toEqual([201, { id: 'long', usage: 1 }])

  const read: unknown[] = []
  let next: string | null = null
  for (
    let path = 'record?limit=2';
    ;
    path = `record/usage?limit=2&after=${encodeURIComponent(next)}`
  ) {
    const page = await get<{ usage: unknown[]; next: string | null }>(`/tenants/long/${path}`)
    read.push(...page.usage)
    next = page.next
    if (next === null) break
  }
  expect(read).toEqual(usage)

  expect(await code(await put('/tenants/long/record/usage', more))).toBe('tenant_exists')
  expect(await code(await put('/tenants/none/record/usage', more))).toBe('tenant_not_found')
  for (const after of ['x', '[1]', '["2026-11-23T99:00Z","2026-11-23","k","m"]']) {
    const asked = await operate('GET', `/tenants/long/record/usage?after=${after}`)
    expect([asked.status, await code(asked)]).toEqual([400, 'invalid_value'])
  }
  expect((await operate('GET', '/tenants/none/record/usage')).status).toBe(404)
})
