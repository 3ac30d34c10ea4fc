import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  hostPenstock,
  REQUEST_ID,
  spawnPenstock,
  type PenstockHost,
  type Ran,
} from '../support/e2e-cli.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const EXAMPLE = join(ROOT, 'fleet.example.yaml')

const folder = mkdtempSync(join(tmpdir(), 'penstock-cli-'))
const broken = join(folder, 'broken.yaml')
const BROKEN = readFileSync(EXAMPLE, 'utf8')
  .replace('node_key: NODE_KEY_A', 'node_key: sk-hunter2')
  .replace('every: 5s', 'every: 5')

/** The line that holds `piece`, from 1. */
const lineOf = (piece: string): number => BROKEN.slice(0, BROKEN.indexOf(piece)).split('\n').length
const [KEY_LINE, EVERY_LINE] = [lineOf('node_key:'), lineOf('every: 5')]

// Some start a Node of their own; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 30_000 })

interface Seen {
  readonly line: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}
/** What the router was asked, and what it answers next. */
let seen: Seen[] = []
interface Answer {
  readonly status: number
  readonly body: unknown
  readonly type?: string
  /** Of no router of ours. */
  readonly isForeign?: true
}
let next: Answer = { status: 200, body: {} }
/** What it answers before that, each once. */
let first: Answer[] = []
/** The fleet that it has, for `GET /admin/fleet`; null: whatever is next. */
let fleet: Answer | null = null

async function routerAnswers(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
  seen.push({
    line: `${asked.method} ${asked.url}`,
    headers: asked.headers,
    body: await text(asked),
  })
  const isFleet = fleet !== null && asked.method === 'GET' && asked.url === '/admin/fleet'
  const said = (isFleet ? fleet : first.shift()) ?? next
  const { status, body, type = 'application/json', isForeign = false } = said
  const id = isForeign ? {} : { 'x-request-id': REQUEST_ID }
  answer.writeHead(status, { 'content-type': type, location: '/login', ...id })
  answer.end(typeof body === 'string' ? body : JSON.stringify(body))
}
const router = createServer((asked, answer) => void routerAnswers(asked, answer))
let url = ''

beforeAll(async () => {
  writeFileSync(broken, BROKEN)
  router.listen(0, '127.0.0.1')
  await once(router, 'listening')
  url = `http://127.0.0.1:${(router.address() as AddressInfo).port}`
  host = hostPenstock(folder)
})
afterAll(() => {
  host.stop()
  router.closeAllConnections()
  router.close()
  rmSync(folder, { recursive: true })
})
beforeEach(() => {
  seen = []
  next = { status: 200, body: {} }
  first = []
  fleet = null
})

type Env = Readonly<Record<string, string>>

let host: PenstockHost
/** Runs a command in the empty folder; `env` is all of its environment that is about penstock. */
const penstock = (args: readonly string[], env: Env = {}): Promise<Ran> => host.run(args, env)
/** The same in a process of its own: for what only its end shows, such as its exit status. */
const spawned = (args: readonly string[], env: Env = {}): Promise<Ran> =>
  spawnPenstock(args, { env, cwd: folder })
const atRouter = (): Env => ({ PENSTOCK_URL: url, PENSTOCK_ADMIN_TOKEN: 'op' })
const online = (...args: string[]) => penstock(args, atRouter())

describe('penstock check', () => {
  it('accepts the example', async () => {
    expect(await spawned(['check', EXAMPLE])).toMatchObject({
      exit: 0,
      err: '',
      out: expect.stringContaining('ok') as string,
    })
  })

  it('shows each mistake with its place, its line and a caret, but no line with a secret', async () => {
    const { exit, out, err } = await penstock(['check', 'broken.yaml'])
    expect([exit, out]).toEqual([1, ''])
    expect(err).toContain(
      `broken.yaml:${KEY_LINE}:15 sites.shanghai-a.node_key name a Worker secret in capitals`,
    )
    expect(err).toMatch(
      /defaults\.health\.every a duration needs its unit.*\n {6}every: 5 #.*\n {13}\^\n/,
    )
    expect(err).not.toContain('hunter2')
    expect(err).toContain('2 mistakes in broken.yaml')
  })

  it('says the same as JSON', async () => {
    const { exit, out, err } = await spawned(['check', 'broken.yaml', '--json'])
    expect([exit, err]).toEqual([1, ''])
    expect(JSON.parse(out)).toMatchObject({
      error: { code: 'invalid_fleet' },
      problems: [
        { path: 'sites.shanghai-a.node_key', line: KEY_LINE },
        { path: 'defaults.health.every', line: EVERY_LINE },
      ],
    })
  })

  it('looks for fleet.yaml, and says so when there is none', async () => {
    expect(await penstock(['check'])).toEqual({
      exit: 1,
      out: '',
      err: 'error: cannot read fleet.yaml: there is no such file\n',
    })
  })
})

it('penstock schema prints, writes and compares the JSON Schema', async () => {
  const printed = await spawned(['schema'])
  expect(JSON.parse(printed.out)).toMatchObject({ title: 'Penstock fleet' })
  expect(await penstock(['schema', '--out', 'schema.json'])).toMatchObject({ exit: 0 })
  expect(await penstock(['schema', '--check', 'schema.json'])).toMatchObject({ exit: 0 })
  expect(await penstock(['schema', '--out', 'none/schema.json'])).toEqual({
    exit: 1,
    out: '',
    err: 'error: cannot write none/schema.json: there is no such folder\n',
  })
  writeFileSync(join(folder, 'schema.json'), '{}')
  expect(await penstock(['schema', '--check', 'schema.json'])).toMatchObject({ exit: 1 })
})

it('penstock kit nginx prints the nginx.conf of one site', async () => {
  const { exit, out } = await penstock(['kit', 'nginx', EXAMPLE, '--site', 'shanghai-a'])
  expect([exit, out]).toEqual([
    0,
    expect.stringContaining('location = /i/qwen-1/v1/chat/completions'),
  ])
  const unknown = await penstock(['kit', 'nginx', EXAMPLE, '--site', 'mars'])
  expect(unknown).toEqual({ exit: 1, out: '', err: 'error: the fleet has no site mars\n' })
})

describe('penstock apply', () => {
  const taken = { version: 4, changed: true, pools: [{ pool: 'a', taken: true, version: 4 }] }
  const yaml = readFileSync(EXAMPLE, 'utf8')
  const there = (text: string): Answer => ({
    status: 200,
    body: { version: 3, at: 0, models: 4, pools: 5, by: 'ann', message: null, yaml: text },
  })
  /** What was sent beside the question for the current version. */
  const sent = () => seen.filter(({ line }) => line !== 'GET /admin/fleet')

  beforeEach(() => {
    fleet = there(yaml.replace('port: 8003, slots: 32', 'port: 8003, slots: 16'))
    next = { status: 200, body: taken }
  })

  it('says what changes, and sends the file as it is written for the version that it compared', async () => {
    const { exit, out } = await online('apply', EXAMPLE, '--message', '更多 slots')
    expect([exit, out]).toEqual([0, 'instance internlm-1: slots 16 → 32\napplied as version 4\n'])
    expect(sent()).toMatchObject([
      {
        line: `PUT /admin/fleet?message=${encodeURIComponent('更多').concat('+slots')}`,
        headers: { authorization: 'Bearer op', 'if-match': '3' },
        body: yaml,
      },
    ])
  })

  it('prints the answer and the differences as JSON', async () => {
    const { exit, out } = await online('apply', EXAMPLE, '--json', '--if-match', '2')
    expect([exit, JSON.parse(out)]).toEqual([
      0,
      {
        ...taken,
        differences: [
          {
            kind: 'changed',
            path: 'pools.internlm-7b-chat.instances.internlm-1.slots',
            sentence: 'instance internlm-1: slots 16 → 32',
          },
        ],
      },
    ])
    expect(sent()[0]?.headers['if-match']).toBe('2')
  })

  it('makes the first version only where there is none', async () => {
    fleet = { status: 404, body: { error: { message: 'none yet', code: 'fleet_not_found' } } }
    const { exit, out } = await online('apply', EXAMPLE)
    expect([exit, out]).toEqual([0, expect.stringContaining('model qwen added: stable 95 % in')])
    expect(sent()[0]?.headers['if-match']).toBe('0')
  })

  it('asks nobody and sends nothing when the file has mistakes', async () => {
    const { exit, err } = await online('apply', 'broken.yaml', '--yes')
    expect([exit, seen]).toEqual([1, []])
    expect(err).toContain(`broken.yaml:${EVERY_LINE}:12 `)
  })

  describe('when a model would lose its last instance', () => {
    beforeEach(() => {
      fleet = there(yaml.replace('port: 8003', 'port: 9003'))
    })

    it('does nothing without --yes when there is nobody to ask', async () => {
      const { exit, err } = await online('apply', EXAMPLE)
      expect([exit, sent()]).toEqual([1, []])
      expect(err).toContain('model internlm loses its last instance (internlm-1)')
      expect(err).toContain('--yes')
    })

    it('does it with --yes', async () => {
      expect(await online('apply', EXAMPLE, '--yes')).toMatchObject({ exit: 0, err: '' })
      expect(sent()).toHaveLength(1)
    })
  })

  it('wants --yes where it cannot tell what changes', async () => {
    fleet = there('oddity: 1')
    const { exit, err } = await online('apply', EXAMPLE)
    expect([exit, sent()]).toEqual([1, []])
    expect(err).toContain('version 3 was written for another release')
    expect(await online('apply', EXAMPLE, '--yes')).toMatchObject({ exit: 0 })
  })

  it('shows what only the router could know to be wrong', async () => {
    const problem = {
      path: 'sites.shanghai-a.region',
      line: lineOf('region:'),
      column: 13,
      message: 'is full',
    }
    const error = {
      message: 'the fleet has a mistake',
      type: 'invalid_request_error',
      param: null,
      code: 'invalid_fleet',
    }
    next = { status: 400, body: { error, problems: [problem] } }
    const { exit, err } = await online('apply', EXAMPLE, '--yes')
    expect(exit).toBe(1)
    expect(err).toMatch(/:13 sites\.shanghai-a\.region is full\n {6}region: apac/)
  })

  it('exits 3 when another version is current', async () => {
    next = { status: 412, body: { error: { message: 'version 5 is current', code: 'conflict' } } }
    expect(await spawned(['apply', EXAMPLE, '--if-match', '3'], atRouter())).toMatchObject({
      exit: 3,
      err: 'error: version 5 is current\n',
    })
  })

  it('exits 4 and names the pools that have not taken it', async () => {
    const late = { pool: 'b', taken: false, version: null, error: 'out of reach' }
    const behind = { pool: 'c', taken: false, version: 3 }
    next = { status: 200, body: { ...taken, pools: [...taken.pools, late, behind] } }
    const { exit, err } = await online('apply', EXAMPLE)
    expect([exit, err]).toEqual([
      4,
      'pool b has not taken it: out of reach\npool c has not taken it: it runs version 3\n',
    ])
  })
})

describe('penstock check, told of a router', () => {
  it('shows what that knows to be wrong', async () => {
    const line = lineOf('node_key:')
    const message = 'secret NODE_KEY_A is not set: npx wrangler secret put NODE_KEY_A --env=""'
    const problem = { path: 'sites.shanghai-a.node_key', line, column: 15, message }
    next = { status: 200, body: { ok: false, problems: [problem] } }
    const env = { PENSTOCK_ADMIN_TOKEN: 'op' }
    const { exit, err } = await penstock(['check', EXAMPLE, '--url', url], env)
    expect([exit, err]).toEqual([
      1,
      `${EXAMPLE}:${line}:15 sites.shanghai-a.node_key ${message}\nerror: 1 mistake in ${EXAMPLE}, says the router\n`,
    ])
    expect(seen).toMatchObject([{ line: 'POST /admin/fleet/check' }])
  })

  it('asks nobody for the environment alone', async () => {
    expect(await online('check', EXAMPLE)).toMatchObject({ exit: 0 })
    expect(seen).toEqual([])
  })
})

describe('tenants and keys', () => {
  const error = (code: string) => ({
    error: { message: `it is ${code}`, type: 'invalid_request_error', param: null, code },
  })

  it('are created over the admin API', async () => {
    next = { status: 201, body: { id: 'acme', created: 1 } }
    expect(await online('tenant', 'create', 'acme')).toMatchObject({
      exit: 0,
      out: expect.stringContaining('tenant acme created') as string,
    })
    expect(seen).toMatchObject([{ line: 'POST /admin/tenants', body: '{"id":"acme"}' }])
  })

  it('show a new key once, and say so', async () => {
    const created = { key: 'psk_acme_1_2_3', id: '1', tenant: 'acme', name: 'ci', created: 1 }
    next = { status: 201, body: created }
    const { out } = await online('key', 'create', 'acme', '--name', 'ci')
    expect(out).toMatch(/^psk_acme_1_2_3\n.*this once/)
    const asJson = await online('key', 'create', 'acme', '--json')
    expect(JSON.parse(asJson.out)).toEqual(created)
    expect(seen).toMatchObject([
      { line: 'POST /admin/tenants/acme/keys', body: '{"name":"ci"}' },
      { line: 'POST /admin/tenants/acme/keys', body: '{}' },
    ])
  })

  it('list and revoke keys, with names that need escaping escaped', async () => {
    next = {
      status: 200,
      body: { keys: [{ id: 'k1', name: null, created: 0, revoked: 86_400_000 }] },
    }
    expect((await online('key', 'list', 'a/b')).out).toBe(
      'id  name  created     revoked\nk1        1970-01-01  1970-01-02\n',
    )
    next = { status: 200, body: { id: 'k1', revoked: 1 } }
    expect((await online('key', 'revoke', 'acme', 'k1')).out).toBe('key k1 of acme is revoked\n')
    expect(seen.map(({ line }) => line)).toEqual([
      'GET /admin/tenants/a%2Fb/keys',
      'DELETE /admin/tenants/acme/keys/k1',
    ])
  })

  it.each([
    [409, 'tenant_exists', 3],
    [404, 'tenant_not_found', 1],
    [401, 'invalid_api_key', 1],
    [503, 'router_unavailable', 5],
  ])('exit as the router refuses: %d %s is %d', async (status, code, exit) => {
    next = { status, body: error(code) }
    expect(await online('tenant', 'create', 'acme')).toEqual({
      exit,
      out: '',
      err: `error: it is ${code}\n`,
    })
    const asJson = await online('tenant', 'create', 'acme', '--json')
    expect([asJson.exit, JSON.parse(asJson.out)]).toEqual([
      exit,
      { error: { message: `it is ${code}`, code } },
    ])
  })
})

it('penstock history and status print a table', async () => {
  const row = { version: 12, at: 0, models: 4, pools: 5, by: 'ann', message: 'more slots' }
  next = { status: 200, body: { versions: [row, { ...row, version: 1, by: null, message: null }] } }
  expect((await online('history')).out).toBe(
    `version  at                    by   models  pools  why
     12  1970-01-01T00:00:00Z  ann       4      5  more slots
      1  1970-01-01T00:00:00Z  -         4      5\n`,
  )
  const instance = {
    id: 'i-1',
    state: 'ready',
    reason: 'answers',
    since: 0,
    inFlight: 3,
    slots: 32,
    running: 2,
    waiting: null,
  }
  const pools = [
    { pool: 'p', fleet: 12, instances: [instance] },
    { pool: 'q', fleet: 11, instances: [] },
  ]
  next = { status: 200, body: { pools, unreachable: ['r'] } }
  const { out, err } = await online('status')
  expect(err).toBe('pool r cannot be reached\npool q runs version 11, not 12\n')
  expect(out).toBe(
    `pool  instance  state  in flight  running  waiting  since                 reason
p     i-1       ready       3/32        2        -  1970-01-01T00:00:00Z  answers\n`,
  )
  const asked = ['GET /admin/fleet/versions', 'GET /admin/models', 'GET /admin/pools']
  expect(seen.map(({ line }) => line).toSorted()).toEqual(asked)
})

describe('penstock drain', () => {
  const seat = { id: 'a', drained: true, state: 'draining', inFlight: 1 }
  const pool = (...instances: object[]): Answer => ({ status: 200, body: { instances } })

  it('waits on where the instance leaves the file meanwhile', async () => {
    first = [pool(seat), pool({ ...seat, drained: false }), pool()]
    expect(await online('drain', 'p', 'a')).toEqual({
      exit: 0,
      out: 'drained a: it has no request left\n',
      err: '',
    })
  })

  it('exits 3 where somebody lets it work again', async () => {
    first = [pool(seat), pool({ ...seat, drained: false, state: 'ready' })]
    const { exit, err } = await online('drain', 'p', 'a')
    expect([exit, err]).toEqual([3, expect.stringContaining('somebody lets a work again')])
  })
})

describe('which router', () => {
  const token = { PENSTOCK_ADMIN_TOKEN: 'op' }

  it('is the local run of the folder when nothing else is said, with its own token', async () => {
    mkdirSync(join(folder, '.penstock'))
    writeFileSync(
      join(folder, '.penstock/local.json'),
      JSON.stringify({ url, adminToken: 'local' }),
    )
    next = { status: 200, body: { pools: [] } }
    expect(await penstock(['status'])).toMatchObject({ exit: 0 })
    expect(await penstock(['status'], token)).toMatchObject({ exit: 0 })
    expect(await penstock(['status', '--url', `${url}/base/`], token)).toMatchObject({ exit: 0 })
    const asked = seen.filter(({ line }) => line.endsWith('/pools'))
    expect(asked.map(({ line, headers }) => [line, headers.authorization])).toEqual([
      ['GET /admin/pools', 'Bearer local'],
      ['GET /admin/pools', 'Bearer local'],
      ['GET /base/admin/pools', 'Bearer op'],
    ])
    rmSync(join(folder, '.penstock'), { recursive: true })
  })

  it.each([
    [['status'], {}, 1, /--url or set PENSTOCK_URL/],
    [['status', '--url', 'https://llm.example.com'], {}, 1, /set PENSTOCK_ADMIN_TOKEN/],
    [['status', '--url', 'http://llm.example.com'], token, 1, /must not travel unencrypted/],
    [['status', '--url', 'llm.example.com'], token, 1, /must be whole/],
    [['status', '--url', 'https://x'], { PENSTOCK_ADMIN_TOKEN: 'a b' }, 1, /TOKEN is no token/],
    [['smoke', '--key', 'k'], {}, 1, /--url or set PENSTOCK_URL/],
    [['smoke', '--url', 'http://llm.example.com'], {}, 1, /the key must not travel unencrypted/],
    [['smoke', '--url', 'https://llm.example.com'], {}, 1, /which key/],
  ])('%j with %j exits %d', async (args, env, exit, message) => {
    const ran = await penstock(args, env)
    expect([ran.exit, ran.out]).toEqual([exit, ''])
    expect(ran.err).toMatch(message)
  })

  /** An address where nobody listens. */
  async function nowhere(): Promise<string> {
    const idle = createServer()
    idle.listen(0, '127.0.0.1')
    await once(idle, 'listening')
    const { port } = idle.address() as AddressInfo
    idle.close()
    await once(idle, 'close')
    return `http://127.0.0.1:${port}`
  }

  it('is out of reach when nothing listens', async () => {
    const url = await nowhere()
    const { exit, err } = await spawned(['status', '--url', url], token)
    expect([exit, err]).toEqual([5, `error: cannot reach ${url}: connection refused\n`])
  })

  it('is found by smoke as by all others, with the key of the local run', async () => {
    const url = await nowhere()
    mkdirSync(join(folder, '.penstock'))
    writeFileSync(join(folder, '.penstock/local.json'), JSON.stringify({ url, apiKey: 'psk_x' }))
    for (const named of [[], ['--profile', 'local']]) {
      const { exit, err } = await penstock(['smoke', ...named])
      expect([exit, err]).toEqual([5, expect.stringContaining(`cannot reach ${url}`)])
    }
    rmSync(join(folder, '.penstock'), { recursive: true })
  })

  it.each([
    ['status'],
    ['history', '--json'],
    ['rollout', '--json'],
    ['tenant', 'list'],
    ['drain', 'p', 'i'],
    ['diff', EXAMPLE],
  ])('is not another service that speaks JSON: %j', async (...args) => {
    next = { status: 200, body: {}, isForeign: true }
    const { exit, out, err } = await online(...args)
    expect(exit).toBe(5)
    expect(out + err).toContain('answered 200, not as the router would')
  })

  it('is not another service that knows no such path, but its own front may speak for it', async () => {
    const body = { error: { message: 'not here', code: 'x' } }
    next = { status: 404, body, isForeign: true }
    expect(await online('status')).toMatchObject({
      exit: 5,
      err: expect.stringContaining('another service') as string,
    })
    next = { status: 503, body, isForeign: true }
    expect(await online('status')).toMatchObject({ exit: 5, err: 'error: not here\n' })
  })

  it.each([
    [502, '<html>Bad Gateway</html>'],
    [302, '<html>Sign in</html>'],
    [200, '<html>Welcome</html>'],
    [200, '[]'],
  ])('is out of reach when %d %s comes from the way', async (status, body) => {
    next = { status, body, type: 'text/html' }
    const { exit, err } = await online('status')
    expect(exit).toBe(5)
    expect(err).toContain(`answered ${status}, not as the router would`)
    expect(seen).toHaveLength(1)
  })
})

describe('what cannot be understood', () => {
  it.each([
    [['aply', 'x'], /unknown command 'aply'\n\(Did you mean apply\?\)/],
    [['check', '--jsno'], /unknown option '--jsno'/],
    [['apply', 'x', '--if-match', 'latest'], /give a version number/],
    [['key', 'create'], /missing required argument 'tenant'/],
    [['check', 'a', 'b'], /too many arguments/],
    [['rollback', 'latest'], /give a version number/],
    [['drain', 'p'], /missing required argument 'instance'/],
    [[], /Usage: penstock/],
  ])('%j exits 1 with a reason, in words or as JSON', async (args, message) => {
    const { exit, err } = await penstock(args)
    expect(exit).toBe(1)
    expect(err).toMatch(message)
    if (args.length === 0) return
    const asJson = await penstock([...args, '--json'])
    expect([asJson.exit, asJson.err]).toEqual([1, ''])
    expect(JSON.parse(asJson.out)).toEqual({
      error: { message: expect.stringMatching(message) as string, code: null },
    })
    expect(asJson.out).not.toContain('error: ')
  })

  it('is not --help, which exits 0', async () => {
    expect(await spawned(['--help'])).toMatchObject({
      exit: 0,
      out: expect.stringContaining('Exit codes') as string,
    })
  })
})
