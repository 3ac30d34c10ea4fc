import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { TenantUsage } from '../../durable-objects/tenant/usage-csv.ts'
import { eachAtOnce } from '../../scripts/cli/at-once.ts'
import { contentsOf } from '../../scripts/cli/backup-file.ts'
import { tenantsIn } from '../../scripts/cli/bulk.ts'
import { readCsv } from '../../scripts/cli/csv.ts'
import { amount, fitted, short } from '../../scripts/cli/display.ts'
import { tenantFields } from '../../scripts/cli/tenant-words.ts'
import { usagePicture } from '../../scripts/cli/usage.ts'

describe('readCsv', () => {
  it('reads quotes, line breaks within them, and whatever ends a line', () => {
    const text = '\u{feff}id,name\r\na,"x, ""y"""\n\nb,"two\nlines"\r\nc,\n'
    expect(readCsv(text)).toEqual({
      lines: [
        { number: 1, cells: ['id', 'name'] },
        { number: 2, cells: ['a', 'x, "y"'] },
        { number: 4, cells: ['b', 'two\nlines'] },
        { number: 6, cells: ['c', ''] },
      ],
      unclosed: null,
    })
  })

  it('names the line of a quote that nothing ends', () => {
    expect(readCsv('id,models,plan\na,"x\ny","z\nc,,\n').unclosed).toBe(3)
  })
})

const FLEET = { plans: ['pro'], models: ['x', 'y'], aliases: ['gpt-*'] }

describe('tenantsIn', () => {
  it('reads a tenant from each line; an empty cell says nothing', () => {
    const text = 'id,plan,rpm,models,budget,budget_stop\na,pro,,,,\nb,,none,x y,10,yes\n'
    expect(tenantsIn(text, FLEET)).toEqual({
      mistakes: [],
      wanted: [
        { line: 2, id: 'a', body: { id: 'a', plan: 'pro' } },
        {
          line: 3,
          id: 'b',
          body: {
            id: 'b',
            overrides: { rpm: null, models: ['x', 'y'] },
            budget: { monthly: 10, stop: true },
          },
        },
      ],
    })
  })

  it('names each mistake with its line', () => {
    const text =
      'id,plan,rpm,class,budget_stop\nA,pro,1,,\nb,gold,x,,\nb,,1,vip,\nc,,1,,maybe\nd,,,,,\n'
    const said = tenantsIn(text, FLEET).mistakes.map(({ line, message }) => `${line} ${message}`)
    expect(said).toEqual([
      expect.stringMatching(/^2 "A" is no tenant id/),
      '3 the fleet has no plan "gold"; it has pro',
      expect.stringMatching(/^3 rpm: write a whole number/),
      '4 b is in line 3 already',
      expect.stringMatching(/^4 class: write interactive, standard, batch/),
      '5 budget_stop: write true or false',
      '6 has 6 cells, and there are 5 columns',
    ])
  })

  it.each([
    ['id,plna', /unknown column "plna"; did you mean plan\?/],
    ['plan', /no column "id"/],
    ['id,rpm,rpm', /twice/],
    [' ', /unknown column/],
  ])('reads nothing under the columns %j', (head, message) => {
    const { mistakes, wanted } = tenantsIn(`${head}\na,b,c\n`, null)
    expect(wanted).toEqual([])
    expect(mistakes[0]?.message).toMatch(message)
  })

  it('finds whatever the router would refuse, before anything is created', () => {
    const text =
      'id,models,budget,budget_stop\na,x gpt-4,1,\nb,z,,\nc,q*,,\nd,,2000000000,\ne,,,yes\n'
    const said = tenantsIn(text, FLEET).mistakes.map(({ line, message }) => `${line} ${message}`)
    expect(said).toEqual([
      '3 the fleet has no model "z"; it has x, y',
      '4 the fleet has no model "q*"; it has x, y',
      '5 budget: must be at most 1000000000',
      '6 budget: is missing',
    ])
  })

  it('takes nothing from a file with a quote that nothing ends', () => {
    expect(tenantsIn('id,models\na,"x\nb,y\n', FLEET)).toEqual({
      wanted: [],
      mistakes: [{ line: 2, message: 'a quote begins in this line that nothing ends' }],
    })
  })

  it('asks for no plan, and no model, that cannot be known', () => {
    expect(tenantsIn('id,plan,models\na,gold,z', null).mistakes).toEqual([])
    const before = { plans: [], models: null, aliases: [] }
    expect(tenantsIn('id,plan,models\na,,z', before).mistakes).toEqual([])
  })
})

describe('tenantFields', () => {
  it('says what is named, "none" as null, and nothing else', () => {
    expect(tenantFields({})).toEqual({})
    expect(tenantFields({ plan: 'none', tokensPerDay: '400_000', class: 'none' })).toEqual({
      plan: null,
      overrides: { tokensPerDay: 400_000, class: null },
    })
    expect(tenantFields({ models: 'qwen, claude-*', tpm: 'unlimited' })).toEqual({
      overrides: { models: ['qwen', 'claude-*'], tpm: 'unlimited' },
    })
    expect(tenantFields({ budget: 'none' })).toEqual({ budget: null })
    expect(tenantFields({ budgetStop: false })).toEqual({ budget: { stop: false } })
    expect(tenantFields({ budget: '12.50' })).toEqual({ budget: { monthly: 12.5 } })
  })

  it.each([{ rpm: '0' }, { rpm: '1.5' }, { tokensPerMonth: 'many' }, { budget: '-1' }])(
    'refuses %j',
    (words) => {
      expect(() => tenantFields(words)).toThrow(/write/)
    },
  )
})

describe('tables', () => {
  it.each([
    [99_999, '99999'],
    [1_234_567, '1.235M'],
    [0, '0'],
  ])('%d tokens are %s', (count, said) => {
    expect(short(count)).toBe(said)
  })

  it.each([
    [12.345, '12.35'],
    [0, '0.00'],
    [0.000552, '0.000552'],
  ])('%d of money is %s', (money, said) => {
    expect(amount(money)).toBe(said)
  })

  it('shorten one column where a line is too long, and no other', () => {
    const [row = []] = fitted([['a'.repeat(80), 'b'.repeat(40)]], 1)
    expect(row).toEqual(['a'.repeat(80), `${'b'.repeat(17)}…`])
    expect(fitted([['a', 'b']], 1)).toEqual([['a', 'b']])
  })

  const usage: TenantUsage = {
    tenant: 'a-tenant-with-a-rather-long-name-of-its-own',
    period: '2026-11-23T14:00Z',
    key: 'k1234567',
    model: 'organisation/a-model-with-a-long-name-70b-instruct',
    requests: 123_456,
    errors: 12,
    limited: 345,
    promptTokens: 123_456_789,
    cachedTokens: 23_456_789,
    completionTokens: 34_567_890,
    estimatedTokens: 4_567,
    cost: 123_456.789,
  }

  it('of usage fit a terminal of a hundred letters, whatever the names', () => {
    for (const wish of [
      { keys: false, tenants: true },
      { keys: true, tenants: true },
      { keys: true, tenants: false },
    ]) {
      const said = usagePicture([usage], { currency: 'EUR' }, wish)
      expect(said.split('\n').filter((line) => line.length > 100)).toEqual([])
      expect(said).toContain('left out for want of room: cached')
    }
  })

  it('of usage sum the keys up unless they are asked for', () => {
    const rows = ['k1', 'k2'].map((key) => ({ ...usage, tenant: 't', model: 'm', key, errors: 0 }))
    const summed = usagePicture(rows, { currency: null }, { keys: false, tenants: false })
    expect(summed.split('\n').map((line) => line.trim().split(/ {2,}/))).toEqual([
      [
        'period',
        'model',
        'requests',
        'limited',
        'prompt',
        'cached',
        'answers',
        'estimated',
        'cost',
      ],
      [usage.period, 'm', '246.9K', '690', '246.9M', '46.91M', '69.14M', '9134', '246913.58'],
      ['total', '246.9K', '690', '246.9M', '46.91M', '69.14M', '9134', '246913.58'],
    ])
    const each = usagePicture(rows, { currency: null }, { keys: true, tenants: false })
    expect(each).toMatch(/k1 .*\n.*k2 /)
  })
})

it('eachAtOnce does no more at once than it may, and all of it', async () => {
  let running = 0
  let most = 0
  const done: number[] = []
  await eachAtOnce([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, 1))
    running--
    done.push(item)
  })
  expect([most, running, done.toSorted((a, b) => a - b)]).toEqual([3, 0, [1, 2, 3, 4, 5, 6, 7]])
})

describe('a backup', () => {
  const folder = mkdtempSync(join(tmpdir(), 'penstock-backup-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'backup.ndjson')
  const head = { kind: 'penstock-backup', format: 1, at: 7 }
  const version = { version: 1, at: 1, models: 1, pools: 1, yaml: 'a: 1' }
  const record = { id: 'acme', created: 1, profile: {}, keys: [{}], usage: [{}, {}] }
  const end = { kind: 'end', counts: { versions: 1, rollouts: 0, tenants: 1, keys: 1, usage: 2 } }
  const whole = [head, { kind: 'fleet', ...version }, { kind: 'tenant', record }, end]
  const written = (lines: readonly unknown[]) => {
    writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    return contentsOf(file)
  }

  it('is read when it is whole', async () => {
    expect(await written(whole)).toEqual({
      at: 7,
      counts: end.counts,
      versions: [version],
      rollouts: [],
    })
  })

  it.each([
    ['has no end', whole.slice(0, -1), /cut short/],
    ['lacks a line in the middle', [head, whole[2], end], /lines are missing/],
    ['has no first line', whole.slice(1), /:1 is no line of a backup/],
    ['has a first line twice', [head, ...whole], /:2 is no line of a backup/],
    ['goes on after its end', [...whole, whole[2]], /goes on after its last line/],
    ['is of another format', [{ ...head, format: 2 }, ...whole.slice(1)], /another format/],
    ['has a line of another kind', [head, { kind: 'x' }, end], /:2 is no line/],
    ['is empty', [], /cut short/],
  ])('that %s is refused', async (_, lines, message) => {
    await expect(written(lines)).rejects.toThrow(message)
  })

  const usage = (tenant: string, more: boolean, count = 1) => ({
    kind: 'usage',
    tenant,
    usage: Array.from({ length: count }, () => ({})),
    more,
  })
  const first = { kind: 'tenant', record, more: true }
  const other = { kind: 'tenant', record: { ...record, id: 'other' } }
  const ends = (tenants: number, lines: number) => ({
    kind: 'end',
    counts: { versions: 0, rollouts: 0, tenants, keys: tenants, usage: lines },
  })

  it('may have a ledger in many lines, other tenants between them', async () => {
    const end = ends(2, 8)
    const lines = [head, first, usage('acme', true, 3), other, usage('acme', false), end]
    expect((await written(lines)).counts).toEqual(end.counts)
  })

  it.each([
    ['lacks the end of a ledger', [head, first, usage('acme', true), ends(1, 3)]],
    ['has a ledger of nobody', [head, usage('acme', false, 2), first, ends(1, 4)]],
    [
      'goes on with a ledger that has ended',
      [head, first, usage('acme', false), usage('acme', false), ends(1, 4)],
    ],
  ])('that %s is refused', async (_, lines) => {
    await expect(written(lines)).rejects.toThrow('lines are missing')
  })

  it('whose last line is broken off is refused', async () => {
    await written(whole)
    const text = whole.map((line) => JSON.stringify(line)).join('\n')
    writeFileSync(file, text.slice(0, -5))
    await expect(contentsOf(file)).rejects.toThrow(':4 is no line of a backup')
  })

  it('that is not there is refused', async () => {
    await expect(contentsOf(join(folder, 'none'))).rejects.toThrow('cannot read')
  })
})
