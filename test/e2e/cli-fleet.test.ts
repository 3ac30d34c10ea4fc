/** The fleet in an operator's hands: check, diff, apply, rollback, history and drain against a real router. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { PROJECT } from '../../scripts/local/bundle.ts'
import { runPenstock, startPenstock, type Penstock, type Ran } from '../support/e2e-cli.ts'
import { isWhole, keyOf } from '../support/e2e-api.ts'
import { open } from '../support/e2e-http.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const PROFILE = { ttftBaseMs: 5, itlBaseMs: 20, itlMsPerRunning: 0 }
const folder = mkdtempSync(join(tmpdir(), 'penstock-fleet-'))
const FILE = join(folder, 'fleet.yaml')

let stack: Stack
let host: Penstock
beforeAll(async () => {
  stack = await startStack({
    sims: [
      { id: 'a', pool: 'big', options: { profile: PROFILE } },
      { id: 'b', pool: 'big', options: { profile: PROFILE } },
      { id: 'c', pool: 'small', options: { profile: PROFILE } },
    ],
    fleet: {
      models: {
        qwen: {
          arms: [
            { pool: 'big', weight: 95 },
            { pool: 'small', weight: 5, name: 'canary' },
          ],
        },
        tiny: { arms: [{ pool: 'small' }] },
      },
    },
  })
  host = startPenstock(stack)
})
afterAll(async () => {
  host?.stop()
  await stack?.stop()
  rmSync(folder, { recursive: true })
})
/** Each test begins with the stack's own fleet. */
beforeEach(() => stack.admin.applyFleet(stack.yaml))

const run = (...args: string[]): Promise<Ran> => host.run(...args)
/** Beside the other commands, which wait for one another. */
const runAlone = (...args: string[]): Promise<Ran> => runPenstock(stack, ...args)

/** Writes a fleet file: the stack's own, with a change. */
function write(change: (fleet: FleetInput) => void = () => {}): void {
  const fleet = parse(stack.yaml) as FleetInput
  change(fleet)
  writeFileSync(FILE, stringify(fleet))
}
const tenPercent = ({ models }: FleetInput): void => {
  const [stable, canary] = models['qwen']!.arms
  stable!.weight = 90
  canary!.weight = 10
}
const version = async (): Promise<number> => {
  const { out } = await run('history', '--json')
  return (JSON.parse(out) as { versions: { version: number }[] }).versions[0]!.version
}

it('a change is shown, applied with its reason, and taken back', async () => {
  const before = await version()
  write()
  expect(await run('diff', FILE)).toEqual({
    exit: 0,
    out: `no difference from version ${before}, but in how it is written\n`,
    err: '',
  })
  write(tenPercent)
  const sentences = 'qwen: canary 5 % → 10 %\nqwen: stable 95 % → 90 %\n'
  expect(await run('diff', FILE)).toEqual({ exit: 2, out: sentences, err: '' })
  expect(JSON.parse((await run('diff', FILE, '--json')).out)).toMatchObject({
    version: before,
    differences: [
      { kind: 'changed', path: 'models.qwen.arms.canary.weight' },
      { kind: 'changed', path: 'models.qwen.arms.stable.weight' },
    ],
  })
  expect(await run('apply', FILE, '--message', 'mehr für den Kanarienvogel')).toEqual({
    exit: 0,
    out: `${sentences}applied as version ${before + 1}\n`,
    err: '',
  })
  expect(await run('diff', FILE)).toMatchObject({
    exit: 0,
    out: `no difference from version ${before + 1}\n`,
  })

  expect(await run('rollback', '--message', 'too many errors')).toEqual({
    exit: 0,
    out: `qwen: canary 10 % → 5 %\nqwen: stable 90 % → 95 %\napplied as version ${before + 2}\n`,
    err: '',
  })
  const { out } = await run('history')
  expect(out.split('\n').slice(1, 3)).toEqual([
    expect.stringMatching(
      `^ *${before + 2} .* admin .* back to version ${before}: too many errors$`,
    ),
    expect.stringMatching(`^ *${before + 1} .* admin .* mehr für den Kanarienvogel$`),
  ])
  expect(await run('rollback', '999')).toMatchObject({
    exit: 1,
    err: 'error: There is no fleet version 999.\n',
  })
})

it('a secret that is not set is found by the router alone, before anything changes', async () => {
  const before = await version()
  write(({ pools }) => {
    Object.assign(pools['big']!.instances[0]!, { key_env: 'NOBODY_HAS_IT' })
  })
  expect(await run('check', FILE)).toMatchObject({ exit: 0 })
  const says =
    /key_env secret NOBODY_HAS_IT is not set: npx wrangler secret put NOBODY_HAS_IT --env=""/
  for (const args of [
    ['check', FILE, '--url', stack.url],
    ['apply', FILE, '--yes'],
  ]) {
    const { exit, err } = await run(...args)
    expect([exit, err]).toEqual([1, expect.stringMatching(says)])
  }
  expect(await version()).toBe(before)
})

it('of two operators at once one wins, and the other is told', async () => {
  const before = await version()
  write(tenPercent)
  const other = join(folder, 'other.yaml')
  writeFileSync(other, stack.yaml.replace('weight: 5', 'weight: 20'))
  const condition = ['--if-match', String(before)]
  const both = await Promise.all([
    runAlone('apply', FILE, ...condition),
    runAlone('apply', other, ...condition),
  ])
  expect(both.map(({ exit }) => Number(exit)).sort((a, b) => a - b)).toEqual([0, 3])
  expect(both.find(({ exit }) => exit === 3)?.err).toBe(
    `error: The current fleet version is ${before + 1}, not ${before}: admin has made it meanwhile.\n`,
  )
  expect(await version()).toBe(before + 1)
})

it('nothing that takes away the last instance of a model happens without --yes', async () => {
  const before = await version()
  write((fleet) => {
    delete (fleet.models as Record<string, unknown>)['tiny']
  })
  const refused = await run('apply', FILE)
  expect(refused).toMatchObject({
    exit: 1,
    err: expect.stringContaining('model tiny loses its last instance: it is removed') as string,
  })
  expect(await version()).toBe(before)
  expect(await run('apply', FILE, '--yes')).toMatchObject({ exit: 0 })
})

it('drain waits until the instance is empty; undrain lets it work again', async () => {
  const body = CHAT.body('tiny', 'drain', { stream: true, max_tokens: 60 })
  const stream = await open(stack.url + CHAT.path, { headers: keyOf(stack), body })
  await stream.until(/data: /)
  expect(await run('drain', 'small', 'c', '--no-wait')).toEqual({
    exit: 0,
    out: 'c gets no new requests; it still has 1 request\n',
    err: '',
  })
  const draining = runAlone('drain', 'small', 'c')
  const first = await Promise.race([draining, stream.ended])
  expect(first, 'it waits for the stream').toHaveProperty('complete')
  expect(isWhole((await stream.ended).text)).toBe(true)
  expect(await draining).toEqual({
    exit: 0,
    out: 'drained c: it has no request left\n',
    err: '',
  })
  expect(await run('undrain', 'small', 'c')).toMatchObject({
    exit: 0,
    out: expect.stringMatching(/^c may work again; it is ready/) as string,
  })
  expect(await run('drain', 'small', 'nobody')).toMatchObject({ exit: 1 })
})

it('drain gives up when somebody lets the instance work again', async () => {
  const body = CHAT.body('tiny', 'drain', { stream: true, max_tokens: 400 })
  const stream = await open(stack.url + CHAT.path, { headers: keyOf(stack), body })
  await stream.until(/data: /)
  const draining = runAlone('drain', 'small', 'c')
  await eventually(
    async () => (await stack.pool('small')).instances[0]?.drained,
    (drained) => drained === true,
  )
  await run('undrain', 'small', 'c')
  expect(await draining).toMatchObject({
    exit: 3,
    err: 'error: somebody lets c work again; it is not empty\n',
  })
  stream.leave()
})

it('a profile names the router and where its token is', async () => {
  mkdirSync(join(folder, 'penstock'))
  writeFileSync(
    join(folder, 'penstock/config.yaml'),
    `default: lab\nprofiles: { lab: { url: "${stack.url}", token_env: LAB_TOKEN } }\n`,
  )
  const { PATH = '' } = process.env
  const env = { PATH, XDG_CONFIG_HOME: folder, LAB_TOKEN: stack.adminToken }
  const cli = join(PROJECT, 'scripts/penstock.ts')
  const cwd = folder // where there is no local run
  const status = (...args: string[]) =>
    promisify(execFile)(process.execPath, [cli, 'status', ...args], { cwd, env })
  for (const args of [['--profile', 'lab'], []]) {
    expect((await status(...args)).stdout).toMatch(/^big +a +/m)
  }
})
