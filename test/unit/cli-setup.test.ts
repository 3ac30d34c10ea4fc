/** `penstock setup` with a world of its own: what it does, in which order, and what it leaves as it is. */
import { randomBytes } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import type { PoolTook } from '../../durable-objects/fleet/contract.ts'
import type { Call } from '../../scripts/cli/admin-api.ts'
import { EXIT, Failure } from '../../scripts/cli/failure.ts'
import { askHidden } from '../../scripts/cli/setup-prompt.ts'
import type { Ran, RunOptions, Surroundings } from '../../scripts/cli/setup-run.ts'
import { runCommand, typed } from '../../scripts/cli/setup-run.ts'
import { generated } from '../../scripts/cli/setup-secrets.ts'
import { commandsOf, setUp, type Goal } from '../../scripts/cli/setup-steps.ts'

const TEXT = `
sites:
  lab:
    origin: https://gpu-a.example.com
    access: { id: ACCESS_ID_A, secret: ACCESS_SECRET_A }
    node_key: NODE_KEY_A
pools:
  main: { served_as: served, instances: [{ id: one, site: lab, port: 8001, slots: 4 }] }
models:
  public: { arms: [{ pool: main }] }
`
const checked = checkFleet(TEXT)
if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
const goal: Goal = {
  file: 'fleet.yaml',
  text: TEXT,
  fleet: checked.fleet,
  env: '',
  worker: 'penstock',
  url: 'https://llm.example.com',
  tenant: 'first',
}

/** What there is outside. */
interface World {
  loggedIn: boolean
  /** Null: no such Worker yet. */
  secrets: Record<string, string> | null
  deployed: boolean
  tunnels: string[]
  fleet: string | null
  /** What pools say of the fleet that is applied. */
  took: PoolTook[]
  keys: Record<string, string[]>
}
let world: World
/** What was run, asked, called and said, in order. */
let log: string[]
let said: string[]
let inputs: string[]
beforeEach(() => {
  world = {
    loggedIn: true,
    secrets: null,
    deployed: false,
    tunnels: [],
    fleet: null,
    took: [],
    keys: {},
  }
  log = []
  said = []
  inputs = []
})

const done = (out = ''): Ran => ({ exit: 0, out, err: '' })
const broken = (err: string): Ran => ({ exit: 1, out: '', err })

async function run(command: readonly string[], { input }: RunOptions = {}): Promise<Ran> {
  log.push(command.filter((word) => word !== 'npx').join(' '))
  if (input !== undefined) inputs.push(input)
  const [program, ...words] = command
  if (program === 'cloudflared') return cloudflared(words)
  const [, what, how] = words
  if (what === 'whoami') return { ...done(), exit: world.loggedIn ? 0 : 1 }
  if (what === 'login') {
    world.loggedIn = true
    return done()
  }
  if (what === 'deploy') {
    world.deployed = true
    return done()
  }
  if (how === 'bulk') {
    world.secrets = { ...world.secrets, ...(JSON.parse(input ?? '') as object) }
    return done()
  }
  if (world.secrets === null) return broken('✘ [ERROR] Worker "penstock" not found.')
  const names = Object.keys(world.secrets).map((name) => ({ name, type: 'secret_text' }))
  return done(`a newer wrangler is there\n${JSON.stringify(names)}`)
}

function cloudflared([, what, name = '']: readonly string[]): Ran {
  if (what === 'list') return done(JSON.stringify(world.tunnels.map((it) => ({ name: it }))))
  if (what === 'create') world.tunnels.push(name)
  return done()
}

const missing = (code: string) => new Failure(EXIT.invalid, 'no such', { code })

async function answer(path: readonly string[], { method = 'GET', body, ifMatch }: Call) {
  const [first, tenant = '', keys] = path
  log.push(`${method} /${path.join('/')}${ifMatch === undefined ? '' : ` if ${ifMatch}`}`)
  if (first === 'fleet') {
    if (method === 'PUT' && typeof body === 'string') world.fleet = body
    if (world.fleet === null) throw missing('fleet_not_found')
    return { version: 1, yaml: world.fleet, pools: world.took }
  }
  if (keys !== undefined) {
    const known = (world.keys[tenant] ??= [])
    if (method === 'POST') known.push(`psk_${tenant}_key`)
    return { key: known.at(-1), keys: known.map((id) => ({ id, revoked: null })) }
  }
  if (method === 'POST') world.keys[(body as { id: string }).id] = []
  else if (!(tenant in world.keys)) throw missing('tenant_not_found')
  return {}
}

interface Wishes {
  readonly no?: RegExp
  readonly tunnelHere?: boolean
  readonly env?: Record<string, string>
  readonly typed?: Record<string, string>
}

function around({ no = /^$/, tunnelHere = false, env = {}, typed: words = {} }: Wishes = {}) {
  const tokens: string[] = []
  const surroundings: Surroundings = {
    run,
    say: (text) => void said.push(text),
    confirm: async (question) => {
      log.push(question)
      if (no.test(question)) throw new Failure(EXIT.invalid, 'stopped')
    },
    wants: async () => tunnelHere,
    askSecret: async (name) => words[name] ?? '',
    env,
    bytes: (count) => randomBytes(count),
    admin: async (token, path, call = {}) => {
      tokens.push(token)
      return (await answer(path, call)) as never
    },
    answers: async () => world.deployed,
    sleep: async () => undefined,
  }
  return { surroundings, tokens }
}

const ACCESS = { ACCESS_ID_A: 'an id', ACCESS_SECRET_A: 'a secret' }
const LIST = 'wrangler secret list --format json --env '

describe('setup', () => {
  it('goes from nothing to a first key, in this order', async () => {
    world.loggedIn = false
    const { surroundings, tokens } = around({ typed: ACCESS, tunnelHere: true })
    await setUp(surroundings, goal)
    expect(log).toEqual([
      'wrangler whoami --json',
      'wrangler is not logged in. Run `npx wrangler login`?',
      'wrangler login',
      'wrangler whoami --json',
      LIST,
      'Set the secrets KEY_SIGNING_SECRET, ADMIN_TOKEN, ACCESS_ID_A, ACCESS_SECRET_A, NODE_KEY_A of the Worker penstock?',
      'wrangler secret bulk --env ',
      'Deploy the Worker penstock to https://llm.example.com?',
      'wrangler deploy --env ',
      'cloudflared tunnel list --output json',
      'cloudflared tunnel create lab',
      'cloudflared tunnel route dns lab gpu-a.example.com',
      'GET /fleet',
      'PUT /fleet if 0',
      'GET /tenants/first',
      'POST /tenants',
      'GET /tenants/first/keys',
      'POST /tenants/first/keys',
    ])
    expect(world.secrets).toMatchObject(ACCESS)
    expect(new Set(tokens)).toEqual(new Set([world.secrets?.['ADMIN_TOKEN']]))
    expect(said.at(-1)).toBe(
      '  PENSTOCK_KEY=<the key> npx penstock smoke --url https://llm.example.com',
    )
  })

  it('changes nothing the second time', async () => {
    await setUp(around({ typed: ACCESS, tunnelHere: true }).surroundings, goal)
    const before = structuredClone(world)
    const token = world.secrets?.['ADMIN_TOKEN'] ?? ''
    log = []
    const { surroundings } = around({ env: { PENSTOCK_ADMIN_TOKEN: token } })
    await setUp(surroundings, goal)
    expect(world).toEqual(before)
    expect(log).toEqual([
      'wrangler whoami --json',
      LIST,
      'GET /fleet',
      'GET /tenants/first',
      'GET /tenants/first/keys',
    ])
  })

  it('sets only the secrets that are missing, and does not replace one', async () => {
    world.secrets = { KEY_SIGNING_SECRET: 'old', ADMIN_TOKEN: 'old', ...ACCESS }
    await setUp(around({ env: { PENSTOCK_ADMIN_TOKEN: 'old' } }).surroundings, goal)
    expect(inputs).toHaveLength(1)
    expect(Object.keys(JSON.parse(inputs[0]!) as object)).toEqual(['NODE_KEY_A'])
    expect(world.secrets).toMatchObject({ KEY_SIGNING_SECRET: 'old', ADMIN_TOKEN: 'old' })
  })

  it('puts no secret on a command line, shows what it made once, and what it was told never', async () => {
    await setUp(around({ typed: ACCESS }).surroundings, goal)
    const text = said.join('\n')
    for (const [name, value] of Object.entries(world.secrets ?? {})) {
      expect(log.join('\n')).not.toContain(value)
      expect([name, text.split(value).length - 1]).toEqual([name, name in ACCESS ? 0 : 1])
    }
    const made = ['KEY_SIGNING_SECRET', 'ADMIN_TOKEN', 'NODE_KEY_A'].map(
      (name) => world.secrets![name]!,
    )
    expect(made.every((value) => /^[0-9A-Za-z]{43}$/.test(value))).toBe(true)
    expect(new Set(made).size).toBe(3)
  })

  it('takes secrets from the environment where they are there', async () => {
    await setUp(around({ env: { ...ACCESS, NODE_KEY_A: 'chosen' } }).surroundings, goal)
    expect(world.secrets).toMatchObject({ ...ACCESS, NODE_KEY_A: 'chosen' })
    expect(said.join('\n')).not.toContain('chosen')
  })

  it.each([
    { no: /Set the secrets/, left: 'wrangler secret bulk' },
    { no: /Deploy/, left: 'wrangler deploy' },
    { no: /Set the secrets/, left: 'PUT /fleet' },
  ])('stops where it is told no: $no', async ({ no, left }) => {
    const stopped = setUp(around({ no, typed: ACCESS }).surroundings, goal)
    await expect(stopped).rejects.toThrow('stopped')
    expect(log.join('\n')).not.toContain(left)
  })

  it('sets nothing where a secret that only the operator knows is not told', async () => {
    await expect(setUp(around().surroundings, goal)).rejects.toThrow(
      'ACCESS_ID_A has no value; nothing was set',
    )
    expect(world.secrets).toBeNull()
  })

  it('leaves another fleet as it is, and does not make a tunnel that is there or was not asked for', async () => {
    world.fleet = 'another'
    world.tunnels = ['lab']
    await setUp(around({ typed: ACCESS, tunnelHere: true }).surroundings, goal)
    expect(world).toMatchObject({ fleet: 'another', tunnels: ['lab'] })
    expect(said.join('\n')).toContain('has a fleet, version 1; see npx penstock diff fleet.yaml')
    log = []
    await setUp(around({ env: { PENSTOCK_ADMIN_TOKEN: 'x' } }).surroundings, goal)
    expect(log.join('\n')).not.toContain('cloudflared')
  })

  it('says why wrangler could not tell, and takes that for no empty list', async () => {
    const { surroundings } = around({ typed: ACCESS })
    const failing: Surroundings = {
      ...surroundings,
      run: async (command, options) =>
        command.includes('list')
          ? broken('\n✘ [ERROR] A request to the Cloudflare API failed.\n\n  logs were written\n')
          : run(command, options),
    }
    await expect(setUp(failing, goal)).rejects.toThrow(
      'wrangler secret list: ✘ [ERROR] A request to the Cloudflare API failed.',
    )
    expect(inputs).toEqual([])
  })

  it('ends with 4 where a pool has not taken the fleet, with a key all the same and what to do', async () => {
    world.took = [
      { pool: 'main', taken: false, version: null },
      { pool: 'other', taken: true, version: 1 },
      { pool: 'old', taken: false, version: 3 },
      { pool: 'ill', taken: false, version: null, error: 'out of memory' },
    ]
    const ended = setUp(around({ typed: ACCESS }).surroundings, goal)
    await expect(ended).rejects.toMatchObject({
      exit: EXIT.notTakenEverywhere,
      message: [
        'pool main has not taken it: no answer',
        'pool old has not taken it: it runs version 3',
        'pool ill has not taken it: out of memory',
        'push the fleet again: PENSTOCK_ADMIN_TOKEN=<value of ADMIN_TOKEN> npx penstock apply fleet.yaml --url https://llm.example.com',
      ].join('\n'),
    })
    expect(world.keys).toEqual({ first: ['psk_first_key'] })
    expect(said.join('\n')).toContain('psk_first_key')
  })

  it('works on another environment where it is told', async () => {
    await setUp(around({ typed: ACCESS }).surroundings, { ...goal, env: 'staging' })
    const calls = log.filter((line) => /^wrangler (secret|deploy)/.test(line))
    expect(calls).toHaveLength(3)
    expect(calls.every((line) => line.endsWith(' --env staging'))).toBe(true)
  })
})

describe('the prompt for a secret', () => {
  const shown: string[] = []
  beforeEach(() => {
    shown.length = 0
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => shown.push(String(text)) > 0)
  })
  const ask = (typing: (terminal: PassThrough) => unknown): Promise<string> => {
    const terminal = new PassThrough()
    const answer = askHidden('ACCESS_ID_A', 'needed', terminal)
    typing(terminal)
    return answer
  }

  it.each([
    { by: 'Ctrl-C', typing: (terminal: PassThrough) => terminal.write('half\u0003') },
    { by: 'Ctrl-D', typing: (terminal: PassThrough) => terminal.write('\u0004') },
    { by: 'a terminal that goes away', typing: (terminal: PassThrough) => terminal.end() },
  ])('is stopped in words by $by', async ({ typing }) => {
    const cause = await ask(typing).catch((it: unknown) => it)
    expect(cause).toBeInstanceOf(Failure)
    expect(cause).toMatchObject({
      exit: EXIT.invalid,
      message: 'stopped; what was done stays, and setup goes on from there next time',
    })
  })

  it('takes what is typed, and does not show it', async () => {
    expect(await ask((terminal) => terminal.write(' a secret \r'))).toBe('a secret')
    expect(shown.join('')).toBe('ACCESS_ID_A (not shown; needed): \n')
  })
})

it('prints its commands in order, and none of them holds a secret', () => {
  const commands = commandsOf(goal)
  const order = [
    /^npx penstock check fleet\.yaml$/,
    /^npx wrangler login$/,
    /wrangler secret put KEY_SIGNING_SECRET --env ""$/,
    /^npx wrangler deploy --env ""$/,
    /^cloudflared tunnel create lab$/,
    /^cloudflared tunnel route dns lab gpu-a\.example\.com$/,
    /kit nginx fleet\.yaml --site lab/,
    /^npx penstock apply fleet\.yaml$/,
    /^npx penstock key create first/,
    /^PENSTOCK_KEY=<the key> npx penstock smoke --url/,
  ].map((pattern) => commands.findIndex((line) => pattern.test(line)))
  expect(order.every((at) => at >= 0)).toBe(true)
  expect(order).toEqual([...order].sort((a, b) => a - b))
})

it('makes secrets whose digits are all as likely', () => {
  const counts = new Map<string, number>()
  for (let i = 0; i < 4_000; i++) {
    for (const digit of generated((count) => randomBytes(count))) {
      counts.set(digit, (counts.get(digit) ?? 0) + 1)
    }
  }
  const mean = (4_000 * 43) / 62
  expect(counts.size).toBe(62)
  for (const count of counts.values()) expect(Math.abs(count / mean - 1)).toBeLessThan(0.12)
})

it('runs a command with what it is told on its input, and tells how it ended', async () => {
  const script = 'process.stdin.on("data", (it) => process.stdout.write(String(it).toUpperCase()))'
  const ran = await runCommand([process.execPath, '-e', script], { input: 'secret' })
  expect(ran).toEqual({ exit: 0, out: 'SECRET', err: '' })
  expect((await runCommand(['no-such-program-here'])).exit).toBe(127)
  expect((await runCommand([process.execPath, '-e', 'process.exit(3)'])).exit).toBe(3)
})

it('shows a command as a shell would take it', () => {
  expect(typed(['a', '', 'b c', '$d', '--env=x'])).toBe('a "" "b c" "\\$d" --env=x')
})
