/** What the command line asks of a router for a backup, and tells it in a restore; the router is played. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { addBackupCommands } from '../../scripts/cli/backup.ts'
import { contentsOf } from '../../scripts/cli/backup-file.ts'
import { pagesOf } from '../../scripts/cli/pages.ts'
import { Failure } from '../../scripts/cli/failure.ts'
import { restoreTenants } from '../../scripts/cli/restore-tenants.ts'
import { REQUEST_ID } from '../support/e2e-cli.ts'

const ROUTER = 'http://127.0.0.1:9'
const folder = mkdtempSync(join(tmpdir(), 'penstock-backup-'))
afterAll(() => rmSync(folder, { recursive: true }))

interface Asked {
  readonly method: string
  /** Below `/admin`, with the query. */
  readonly path: string
  readonly body: { readonly usage?: readonly unknown[] }
}

let asked: Asked[] = []
/** What the router answers; an error's code instead of a body: refused. */
let answer: (asked: Asked) => object | string

beforeEach(() => {
  asked = []
  vi.stubEnv('PENSTOCK_ADMIN_TOKEN', 'operator')
  vi.stubGlobal('fetch', async (url: URL, init: { method: string; body?: string }) => {
    const body = JSON.parse(init.body ?? '{}') as Asked['body']
    const path = `${url.pathname}${url.search}`.replace('/admin/', '')
    const call = { method: init.method, path, body }
    asked.push(call)
    // Answers come in another order than they were asked for.
    await new Promise((resolve) => setTimeout(resolve, asked.length % 3))
    const said = answer(call)
    const headers = { 'x-request-id': REQUEST_ID }
    if (typeof said !== 'string') return Response.json(said, { headers })
    return Response.json({ error: { code: said, message: said } }, { status: 409, headers })
  })
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.unstubAllGlobals()
})

const record = (id: string, lines: number) => ({
  id,
  keys: [{}],
  usage: Array.from({ length: lines }, (_, i) => i),
})
const fileOf = (name: string, lines: readonly object[]): string => {
  const file = join(folder, name)
  const whole = [{ kind: 'penstock-backup', format: 1, at: 7 }, ...lines]
  writeFileSync(file, whole.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return file
}
/** Runs a command against the router. @returns what it prints */
async function run(...words: string[]): Promise<string> {
  const program = new Command()
  addBackupCommands(program)
  let printed = ''
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, 'write').mockImplementation((text) => {
      printed += String(text)
      return true
    })
  }
  await program.parseAsync([...words, '--url', ROUTER], { from: 'user' })
  vi.restoreAllMocks()
  return printed
}
/** The calls about one tenant: where, and the lines of its ledger that went there. */
const callsAbout = (id: string) =>
  asked
    .filter(({ path }) => path.startsWith(`tenants/${id}/`))
    .map(({ path, body }) => [path.replace(`tenants/${id}/`, ''), body.usage])

it('a list is read from where each page ended, to its end', async () => {
  answer = ({ path }) => ({ next: { 'x?limit=2': 'a', 'x?limit=2&after=a': 'b' }[path] ?? null })
  const pages = []
  for await (const page of pagesOf(ROUTER, ['x'], { limit: 2 })) pages.push(page)
  expect(asked.map(({ path }) => path)).toEqual([
    'x?limit=2',
    'x?limit=2&after=a',
    'x?limit=2&after=b',
  ])
  expect(pages).toHaveLength(3)
})

it('a ledger is taken page by page; of a tenant that is deleted meanwhile no more than was read', async () => {
  answer = ({ path }) => {
    if (path === 'fleet/versions') return { versions: [] }
    if (path === 'fleet/record') return { rollouts: [] }
    if (path.startsWith('tenants?')) {
      return { tenants: ['a', 'b', 'c', 'd'].map((id) => ({ id })), next: null }
    }
    const id = path.charAt('tenants/'.length)
    if (id === 'd') return 'tenant_not_found'
    if (path.includes('/usage?')) {
      if (id === 'c') return 'tenant_not_found'
      return path.includes('after=1') ? { usage: [3, 4], next: '2' } : { usage: [5], next: null }
    }
    return { ...record(id, 2), next: id === 'b' ? null : '1' }
  }
  const out = join(folder, 'out.ndjson')
  await run('backup', '--out', out)
  expect((await contentsOf(out)).counts).toEqual({
    versions: 0,
    rollouts: 0,
    tenants: 3,
    keys: 3,
    usage: 9,
  })
  const lines = readFileSync(out, 'utf8').trim().split('\n')
  const ofA = lines.map((line) => JSON.parse(line) as { tenant?: string; usage: number[] })
  expect(ofA.filter(({ tenant }) => tenant === 'a')).toEqual([
    { kind: 'usage', tenant: 'a', usage: [3, 4], more: true },
    { kind: 'usage', tenant: 'a', usage: [5], more: false },
  ])
})

describe('a file', () => {
  const nothing = ({ path }: Asked): object => {
    if (path === 'fleet/versions') return { versions: [] }
    return path === 'fleet/record' ? { rollouts: [] } : { tenants: [], next: null }
  }

  it('that two backups want at once is whole, and the other is told', async () => {
    answer = nothing
    const out = join(folder, 'both', 'out.ndjson')
    mkdirSync(join(folder, 'both'))
    const both = await Promise.allSettled([
      run('backup', '--out', out),
      run('backup', '--out', out),
    ])
    const refused = both.flatMap((it) => (it.status === 'rejected' ? [it.reason as unknown] : []))
    expect(refused).toEqual([expect.any(Failure)])
    expect(refused).toMatchObject([
      { exit: 3, message: `${out} is there already; name a new file` },
    ])
    expect((await contentsOf(out)).counts.tenants).toBe(0)
    expect(readdirSync(join(folder, 'both'))).toEqual(['out.ndjson'])
  })

  it('whose folder goes away meanwhile is told of', async () => {
    const away = join(folder, 'away')
    mkdirSync(away)
    answer = (call) => {
      rmSync(away, { recursive: true, force: true })
      return nothing(call)
    }
    const made = run('backup', '--out', join(away, 'out.ndjson'))
    await expect(made).rejects.toThrow(Failure)
    await expect(run('backup', '--out', join(away, 'x'))).rejects.toThrow('there is no such folder')
  })
})

it('a ledger is put back in its order, whatever stands between its lines', async () => {
  answer = () => ({})
  const usage = (tenant: string, i: number, more: boolean) => ({
    kind: 'usage',
    tenant,
    usage: [i],
    more,
  })
  const file = fileOf('between.ndjson', [
    { kind: 'tenant', record: record('a', 1), more: true },
    { kind: 'tenant', record: record('b', 1), more: true },
    usage('a', 1, true),
    usage('b', 1, false),
    { kind: 'tenant', record: record('c', 0) },
    usage('a', 2, true),
    usage('a', 3, false),
  ])
  const done = await restoreTenants(ROUTER, file)
  expect(done).toEqual({ tenants: 3, keys: 3, usage: 6, exists: [], failed: [] })
  expect(callsAbout('a')).toEqual([
    ['record?more=true', [0]],
    ['record/usage?more=true', [1]],
    ['record/usage?more=true', [2]],
    ['record/usage', [3]],
  ])
  expect(callsAbout('c')).toEqual([['record', []]])
})

it('a ledger in its tenant’s own line is put back in parts that a call can carry', async () => {
  answer = () => ({})
  const whole = record('a', 4_500)
  const file = fileOf('whole.ndjson', [
    { kind: 'tenant', record: whole },
    { kind: 'tenant', record: record('b', 2_000) },
  ])
  expect(await restoreTenants(ROUTER, file)).toMatchObject({ tenants: 2, usage: 6_500 })
  const calls = callsAbout('a')
  expect(calls.map(([path]) => path)).toEqual([
    'record?more=true',
    'record/usage?more=true',
    'record/usage',
  ])
  expect(calls.flatMap(([, usage]) => usage)).toEqual(whole.usage)
  expect(callsAbout('b').map(([path]) => path)).toEqual(['record'])
})

it('of one that is there or fails no more lines are sent, and the others are put back', async () => {
  answer = ({ path }) => {
    if (path.startsWith('tenants/there/')) return 'tenant_exists'
    if (path === 'tenants/fails/record/usage?more=true') return 'broken'
    return {}
  }
  const file = fileOf('fails.ndjson', [
    { kind: 'tenant', record: record('there', 4_500) },
    { kind: 'tenant', record: record('fails', 6_500) },
    { kind: 'tenant', record: record('good', 2_500) },
  ])
  expect(await restoreTenants(ROUTER, file)).toEqual({
    tenants: 1,
    keys: 1,
    usage: 2_500,
    exists: ['there'],
    failed: [{ id: 'fails', message: 'broken', code: 'broken', exit: 3 }],
  })
  expect([callsAbout('there').length, callsAbout('fails').length]).toEqual([1, 2])
})

describe('rollouts', () => {
  const VERSION = { version: 1, at: 1, models: 1, pools: 1, yaml: 'x' }
  const HELD = { model: 'm', arm: 'canary', state: 'guarded', share: 0, by: 'guard', arms: '[]' }
  const LEFT = { ...HELD, arm: 'other', state: 'running', share: 5, by: 'ann' }
  const empty = ({ path }: Asked): object | string => {
    if (path === 'fleet/versions') return { versions: [] }
    if (path.startsWith('tenants?')) return { tenants: [], next: null }
    return 'not_found'
  }
  const linesOf = (file: string) =>
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string })

  it('are taken with the versions, in a line of their own where there are any', async () => {
    answer = (call) => (call.path === 'fleet/record' ? { rollouts: [HELD, LEFT] } : empty(call))
    const out = join(folder, 'held.ndjson')
    expect(await run('backup', '--out', out)).toContain('rollouts 2')
    expect(linesOf(out)[1]).toEqual({ kind: 'rollouts', rollouts: [HELD, LEFT] })
    expect(await contentsOf(out)).toMatchObject({ rollouts: [HELD, LEFT], counts: { rollouts: 2 } })
    answer = empty // a router of the release before
    const none = join(folder, 'none.ndjson')
    await run('backup', '--out', none)
    expect(linesOf(none).map(({ kind }) => kind)).toEqual(['penstock-backup', 'end'])
  })

  it('are put back in one call with the versions; those that do not hold are named', async () => {
    answer = (call) =>
      call.path === 'fleet/restore' ? { version: 1, pools: [], rollouts: [HELD] } : empty(call)
    const counts = { versions: 1, rollouts: 2, tenants: 0, keys: 0, usage: 0 }
    const file = fileOf('whole-fleet.ndjson', [
      { kind: 'fleet', ...VERSION },
      { kind: 'rollouts', rollouts: [HELD, LEFT] },
      { kind: 'end', counts },
    ])
    const printed = await run('restore', file, '--yes')
    expect(asked.at(-1)?.body).toEqual({ versions: [VERSION], rollouts: [HELD, LEFT] })
    expect(printed).toContain('m: canary was turned off by its guard')
    expect(printed).toMatch(/not put back.*m: other is being rolled out by ann, at 5 %/)
    const short = fileOf('short.ndjson', [
      { kind: 'fleet', ...VERSION },
      { kind: 'end', counts },
    ])
    await expect(contentsOf(short)).rejects.toThrow('is not whole')
  })

  it('are none in a file of the release before, which is put back all the same', async () => {
    answer = (call) => (call.path === 'fleet/restore' ? { version: 1, pools: [] } : empty(call))
    const file = fileOf('earlier.ndjson', [
      { kind: 'fleet', ...VERSION },
      { kind: 'end', counts: { versions: 1, tenants: 0, keys: 0, usage: 0 } },
    ])
    expect(await run('restore', file, '--yes')).toContain('fleet version 1')
    expect(asked.at(-1)?.body, 'nor does it say what such a router would refuse').toEqual({
      versions: [VERSION],
    })
  })
})
