/** Tenants, keys, usage, backup and restore as an operator has them: the command line, a real router. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Router } from '../../scripts/local/router.ts'
import { penstock, type Ran } from '../support/cli.ts'
import { ask } from '../support/e2e-http.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

let stack: Stack
let empty: Router
const folder = mkdtempSync(join(tmpdir(), 'penstock-tenants-'))
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  stack = await startStack({
    sims: [{ id: 'a', pool: 'pool' }],
    fleet: {
      plans: { pro: { rpm: 600 }, free: { rpm: 2 } },
      billing: { currency: 'EUR', time_zone: 'Asia/Shanghai' },
      models: {
        pool: { arms: [{ pool: 'pool' }], price: { prompt: 2, cached: 1, completion: 8 } },
      },
    },
  })
  empty = await startBareRouter()
})
afterAll(async () => {
  await stack?.stop()
  await empty?.stop()
  rmSync(folder, { recursive: true })
})

const run = (...args: string[]): Promise<Ran> => penstock(stack, ...args)
const there = (...args: string[]): Promise<Ran> =>
  penstock({ url: empty.url, adminToken: BARE_ADMIN_TOKEN }, ...args)
const json = async (ran: Promise<Ran>): Promise<Record<string, unknown>> => {
  const { exit, out, err } = await ran
  expect({ exit, err }).toEqual({ exit: 0, err: '' })
  return JSON.parse(out) as Record<string, unknown>
}
const newKey = async (tenant: string, ...args: string[]) =>
  (await json(run('key', 'create', tenant, '--json', ...args))) as { key: string; id: string }
const chat = async (key: string, url = stack.url): Promise<number> => {
  const body = CHAT.body('pool', 'tenants', { max_tokens: 3 })
  const { status } = await ask(url + CHAT.path, {
    headers: { authorization: `Bearer ${key}` },
    body,
  })
  return status
}

it('a tenant is created, changed, suspended, resumed and deleted', async () => {
  expect(await run('tenant', 'create', 'acme', '--plan', 'gold')).toEqual({
    exit: 1,
    out: '',
    err: 'error: The fleet has no plan "gold": it has pro, free.\n',
  })
  expect((await run('tenant', 'create', 'acme', '--plan', 'free')).exit).toBe(0)
  expect((await run('tenant', 'create', 'acme')).exit).toBe(3)
  const { key } = await newKey('acme')
  expect([await chat(key), await chat(key), await chat(key)]).toEqual([200, 200, 429])
  const set = ['tenant', 'set', 'acme', '--rpm', 'unlimited', '--budget', '50', '--json']
  expect(await json(run(...set))).toMatchObject({
    plan: 'free',
    overrides: { rpm: 'unlimited' },
    budget: { monthly: 50, stop: false },
  })
  expect(await chat(key)).toBe(200)
  const shown = await run('tenant', 'show', 'acme')
  expect(shown.out).toMatch(/^acme {2}plan free, standard, since /)
  expect(shown.out).toContain('of its own: rpm unlimited')
  await run('tenant', 'suspend', 'acme', '--reason', 'unpaid', '--now')
  expect(await chat(key)).toBe(403)
  await run('tenant', 'resume', 'acme')
  expect(await chat(key)).toBe(200)
  const unasked = await run('tenant', 'delete', 'acme')
  expect([unasked.exit, unasked.err]).toEqual([1, expect.stringContaining('--yes')])
  expect(await chat(key)).toBe(200)
  expect(await run('tenant', 'delete', 'acme', '--yes')).toMatchObject({
    exit: 0,
    out: 'tenant acme is deleted\n',
  })
  expect(await chat(key)).toBe(401)
})

it('a key is made, rotated and revoked', async () => {
  await run('tenant', 'create', 'keys')
  const old = await newKey('keys', '--name', 'web', '--expires', '30d')
  const rotated = await json(run('key', 'rotate', 'keys', old.id, '--grace', '0s', '--json'))
  expect([await chat(old.key), await chat(String(rotated['key']))]).toEqual([401, 200])
  const revoked = await run('key', 'revoke', 'keys', String(rotated['id']), '--now')
  expect(revoked.out).toContain('what ran by it has ended')
  expect(await chat(String(rotated['key']))).toBe(401)
  const { out } = await run('key', 'list', 'keys')
  expect(out).toMatch(/^id +name +created +expires +revoked\n/)
  expect(out).not.toContain('psk_')
})

it('what was used is shown, and the same after backup, loss and restore', async () => {
  await run('tenant', 'create', 'used', '--plan', 'pro')
  const { key, id } = await newKey('used', '--name', 'first')
  expect([await chat(key), await chat(key)]).toEqual([200, 200])
  const month = ['usage', 'used', '--by', 'month', '--json']
  const usage = await eventually(
    () => json(run(...month)),
    ({ data }) => (data as { requests: number }[])[0]?.requests === 2,
  )
  expect(usage).toMatchObject({ currency: 'EUR', timeZone: 'Asia/Shanghai' })
  const csv = await run('usage', '--by', 'month', '--csv')
  expect(csv.out).toMatch(new RegExp(`^used,\\d{4}-\\d\\d,${id},pool,2,0,0,.*,EUR\r$`, 'm'))
  const picture = await run('usage', 'used')
  expect(picture.out).toMatch(/\ntotal +2 +/)

  const backup = file('backup.ndjson')
  const { counts } = await json(run('backup', '--out', backup, '--json'))
  expect(counts).toMatchObject({ versions: 1 })
  expect(statSync(backup).mode & 0o077, 'for its owner alone').toBe(0)
  expect(readFileSync(backup, 'utf8')).not.toContain('psk_')
  expect((await run('backup', '--out', backup)).exit, 'nothing is overwritten').toBe(3)
  expect((await run('restore', backup, '--yes')).exit, 'into an empty router alone').toBe(3)

  const cut = file('cut.ndjson')
  writeFileSync(cut, readFileSync(backup, 'utf8').replace(/.*\n$/, ''))
  const refused = await there('restore', cut, '--yes')
  expect([refused.exit, refused.err]).toEqual([1, expect.stringContaining('cut short')])
  expect(await json(there('tenant', 'list', '--json'))).toEqual({ tenants: [] })

  const restored = await json(there('restore', backup, '--yes', '--json'))
  const { versions: _, ...rest } = counts as Record<string, number>
  expect(restored).toEqual({ fleet: 1, ...rest, exists: [], failed: [] })
  expect(await json(there(...month))).toEqual(usage)
  await eventually(
    () => chat(key, empty.url),
    (status) => status === 200,
  )
  const again = await json(there('restore', backup, '--yes', '--resume', '--json'))
  expect(again).toMatchObject({ fleet: null, tenants: 0, failed: [] })
  expect(again['exists']).toHaveLength(rest['tenants'] ?? -1)
})

it('many come out of a file, bad lines named before anything is created', async () => {
  const lines = Array.from({ length: 150 }, (_, i) => `many-${i},pro,${i + 1},`)
  writeFileSync(file('bad.csv'), ['id,plan,rpm,models', ...lines, 'many-7,silver,x,'].join('\n'))
  const bad = await run('tenant', 'create', '--csv', file('bad.csv'))
  expect([bad.exit, bad.out]).toEqual([1, ''])
  expect(bad.err.match(/bad\.csv:152 /g)).toHaveLength(3)
  const prefix = ['tenant', 'list', '--prefix', 'many-', '--json']
  expect(await json(run(...prefix))).toEqual({ tenants: [] })

  writeFileSync(file('good.csv'), ['id,plan,rpm,models', ...lines].join('\n'))
  expect((await run('tenant', 'create', 'many-3')).exit).toBe(0)
  const done = await json(run('tenant', 'create', '--csv', file('good.csv'), '--json'))
  expect(done).toMatchObject({ exists: ['many-3'], failed: [] })
  expect(done['created']).toHaveLength(149)
  expect((await json(run(...prefix)))['tenants']).toHaveLength(150)
  expect((await json(run(...prefix, '--limit', '7')))['tenants']).toHaveLength(7)
  const { data } = await json(run('usage', '--by', 'month', '--json'))
  expect(data, 'of a tenant behind the first page').toContainEqual(
    expect.objectContaining({ tenant: 'used', requests: 2 }),
  )
  expect(await json(run('tenant', 'show', 'many-99', '--json'))).toMatchObject({
    plan: 'pro',
    limits: { rpm: 100 },
  })
})
