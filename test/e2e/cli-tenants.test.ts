/** Tenants, keys, usage, backup and restore as an operator has them: the command line, a real router. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Router } from '../../scripts/local/router.ts'
import { runPenstock, startPenstock, type Penstock, type Ran } from '../support/e2e-cli.ts'
import { ask } from '../support/e2e-http.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { keyIdOf, tenantsOf, type Tenants } from '../support/tenants.ts'

let stack: Stack
let empty: Router
let tenants: Tenants
let here: Penstock
const folder = mkdtempSync(join(tmpdir(), 'penstock-tenants-'))
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  const starting = startStack({
    sims: [{ id: 'a', pool: 'pool' }],
    fleet: {
      plans: { pro: { rpm: 600 }, free: { rpm: 2 } },
      billing: { currency: 'EUR', time_zone: 'Asia/Shanghai' },
      models: {
        pool: { arms: [{ pool: 'pool' }], price: { prompt: 2, cached: 1, completion: 8 } },
      },
    },
  })
  ;[stack, empty] = await Promise.all([starting, startBareRouter()])
  tenants = tenantsOf(stack)
  here = startPenstock(stack)
})
afterAll(async () => {
  here?.stop()
  await Promise.all([stack?.stop(), empty?.stop()])
  rmSync(folder, { recursive: true })
})

const run = (...args: string[]): Promise<Ran> => here.run(...args)
/** A process of its own, as an operator starts it. */
const there = (...args: string[]): Promise<Ran> =>
  runPenstock({ url: empty.url, adminToken: BARE_ADMIN_TOKEN }, ...args)
const json = async (ran: Promise<Ran>): Promise<Record<string, unknown>> => {
  const { exit, out, err } = await ran
  expect({ exit, err }).toEqual({ exit: 0, err: '' })
  return JSON.parse(out) as Record<string, unknown>
}
const chat = async (key: string, url = stack.url): Promise<number> => {
  const body = CHAT.body('pool', 'tenants', { max_tokens: 3 })
  const { status } = await ask(url + CHAT.path, {
    headers: { authorization: `Bearer ${key}` },
    body,
  })
  return status
}

// At once: each test has tenants of its own.
describe.concurrent('the command line', () => {
  it('a tenant is created, changed, suspended, resumed and deleted', async () => {
    expect(await run('tenant', 'create', 'acme', '--plan', 'gold')).toEqual({
      exit: 1,
      out: '',
      err: 'error: The fleet has no plan "gold": it has pro, free.\n',
    })
    expect((await run('tenant', 'create', 'acme', '--plan', 'free')).exit).toBe(0)
    expect((await run('tenant', 'create', 'acme')).exit).toBe(3)
    const key = await tenants.createKey('acme')
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
    await tenants.create('keys')
    const web = ['key', 'create', 'keys', '--name', 'web', '--expires', '30d', '--json']
    const old = (await json(run(...web))) as { key: string; id: string }
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
    const key = await tenants.create('used', { plan: 'pro' })
    expect([await chat(key), await chat(key)]).toEqual([200, 200])
    await tenants.idle('used')
    const month = ['usage', 'used', '--by', 'month', '--json']
    const usage = await json(run(...month))
    expect(usage).toMatchObject({
      currency: 'EUR',
      timeZone: 'Asia/Shanghai',
      data: [{ requests: 2 }],
    })
    const csv = await run('usage', '--by', 'month', '--csv')
    expect(csv.out).toMatch(
      new RegExp(`^used,\\d{4}-\\d\\d,${keyIdOf(key)},pool,2,0,0,.*,EUR\r$`, 'm'),
    )
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
    // Into an empty router alone: so it put nothing back.
    const restored = await json(there('restore', backup, '--yes', '--json'))
    const { versions: _, ...rest } = counts as Record<string, number>
    expect(restored).toEqual({ fleet: 1, ...rest, ended: [], exists: [], failed: [] })
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
    const lines = Array.from({ length: 20 }, (_, i) => `many-${i},pro,${i + 1},`)
    writeFileSync(file('bad.csv'), ['id,plan,rpm,models', ...lines, 'many-7,silver,x,'].join('\n'))
    const bad = await run('tenant', 'create', '--csv', file('bad.csv'))
    expect([bad.exit, bad.out]).toEqual([1, ''])
    expect(bad.err.match(/bad\.csv:22 /g)).toHaveLength(3)
    // Nothing was created: this one neither.
    await tenants.create('many-3')

    writeFileSync(file('good.csv'), ['id,plan,rpm,models', ...lines].join('\n'))
    const done = await json(run('tenant', 'create', '--csv', file('good.csv'), '--json'))
    expect(done).toMatchObject({ exists: ['many-3'], failed: [] })
    expect(done['created']).toHaveLength(19)
    const prefix = ['tenant', 'list', '--prefix', 'many-', '--json']
    expect((await json(run(...prefix)))['tenants']).toHaveLength(20)
    expect((await json(run(...prefix, '--limit', '7')))['tenants']).toHaveLength(7)
    expect(await tenants.show('many-19')).toMatchObject({ plan: 'pro', limits: { rpm: 20 } })
  })
})
