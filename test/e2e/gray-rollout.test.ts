/** Rollouts in an operator's hands: step by step, without anybody going back, whatever befalls the fleet object. */
import { Agent } from 'node:http'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { ArmStatus, ModelStatus } from '../../durable-objects/fleet/contract.ts'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { keyOf } from '../support/e2e-api.ts'
import { startPenstock, type Penstock, type Ran } from '../support/e2e-cli.ts'
import { ask } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { allReady, CHAT, many, operator } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** By whom a share is seen. The same ones are newcomers in each run. */
const USERS = Array.from({ length: 60 }, (_, i) => `u-${i}`)
/** A pause between two steps in which everybody is asked at least once. */
const EVERY = '3s'
/** With the weight that the file gives the canary, of a hundred. */
const MODELS = { stepped: 0, told: 20, filed: 20 }
const folder = mkdtempSync(join(tmpdir(), 'penstock-rollout-'))
const FILE = join(folder, 'fleet.yaml')

let stack: Stack
let cli: Penstock
const agent = new Agent({ keepAlive: true })
beforeAll(async () => {
  stack = await startStack({
    sims: ['old', 'new'].map((id) => ({
      id,
      pool: id,
      slots: 64,
      options: { profile: 'instant' },
    })),
    fleet: {
      models: Object.fromEntries(
        Object.entries(MODELS).map(([name, weight]) => [
          name,
          {
            arms: [
              { pool: 'old', weight: 100 - weight },
              { pool: 'new', weight, name: 'canary' },
            ],
          },
        ]),
      ),
    },
  })
  await allReady(stack)
  cli = startPenstock(stack)
})
afterAll(async () => {
  agent.destroy()
  cli?.stop()
  await stack?.stop()
  rmSync(folder, { recursive: true })
})

const rollout = (model: string, ...words: string[]): Promise<Ran> =>
  cli.run('rollout', model, 'canary', ...words)
const statusOf = async (model: string): Promise<ModelStatus> =>
  (await operator(stack, 'GET', `/admin/models/${model}`)).json as unknown as ModelStatus
const canaryOf = async (model: string): Promise<ArmStatus> => (await statusOf(model)).arms[1]!
const armOf = async (model: string, user: string): Promise<unknown> => {
  const { headers } = await ask(stack.url + CHAT, {
    agent,
    headers: keyOf(stack),
    body: { model, user, messages: [{ role: 'user', content: 'hi' }], max_tokens: 1 },
  })
  return headers['x-penstock-arm']
}
/** Which users are on the canary. */
async function newcomersOf(model: string): Promise<ReadonlySet<string>> {
  const arms = await many(USERS.length, 8, (i) => armOf(model, USERS[i]!))
  return new Set(USERS.filter((_, i) => arms[i] === 'canary'))
}
const shareSeen = (model: string, isSo: (newcomers: number) => boolean) =>
  eventually(
    () => newcomersOf(model),
    ({ size }) => isSo(size),
  )

it('goes its steps by the clock, also through a crash; nobody goes back (L36)', async () => {
  const began = await rollout('stepped', '10%', '50%', '100%', '--every', EVERY)
  expect(began).toMatchObject({
    exit: 0,
    out: expect.stringMatching(/^stepped: canary is at 10 %; 50 % comes in [1-3] s\n$/) as string,
  })
  const crowds: ReadonlySet<string>[] = []
  let crashes = 0
  await eventually(
    async () => {
      crowds.push(await newcomersOf('stepped'))
      if (crowds.length === 2) {
        await stack.crashFleet()
        crashes++
      }
      return crowds.at(-1)!.size
    },
    (size) => size === USERS.length,
    30_000,
  )
  expect(crashes).toBe(1)
  for (const [i, crowd] of crowds.entries()) {
    const before = [...(crowds[i - 1] ?? [])]
    expect(before.filter((user) => !crowd.has(user))).toEqual([])
  }
  const sizes = crowds.map(({ size }) => size)
  expect(
    sizes.some((size) => size > 0 && size < 16),
    'a tenth',
  ).toBe(true)
  expect(
    sizes.some((size) => size > 18 && size < 42),
    'a half',
  ).toBe(true)
  const { arms, changes = [] } = await statusOf('stepped')
  expect(arms[1]).toMatchObject({ share: 100, fileWeight: 0, rollout: { state: 'done' } })
  expect(changes.map(({ event, share, by }) => [event, share, by])).toEqual([
    ['step', 100, null],
    ['step', 50, null],
    ['start', 10, 'admin'],
  ])
  // Each step is there for as long as was asked, a crash or not.
  const [last, middle, start] = changes.map(({ at }) => at)
  expect(Math.min(last! - middle!, middle! - start!)).toBeGreaterThanOrEqual(3_000)
})

it('is started, paused, gone on with, aborted and forgotten by command', async () => {
  expect((await rollout('told', '50%', '100%', '--every', '1h')).exit).toBe(0)
  await shareSeen('told', (n) => n > 18 && n < 42)
  expect(await rollout('told', '5%', '--every', '1h')).toMatchObject({
    exit: 3,
    err: expect.stringContaining('canary is being rolled out by admin, at 50 %') as string,
  })
  expect((await rollout('told', 'pause', '--message', 'lunch')).out).toMatch(
    /^told: canary stays at 50 %: paused by admin \d+ s ago: lunch\n$/,
  )
  expect((await canaryOf('told')).rollout).toMatchObject({ state: 'paused', nextAt: null })
  await stack.crashFleet()
  expect((await rollout('told', 'resume')).out).toMatch(
    /^told: canary is at 50 %; 100 % comes in 60 min\n$/,
  )
  expect((await rollout('told', 'abort', '--message', 'too slow')).out).toMatch(
    /^told: canary stays at 0 %: aborted by admin \d+ s ago: too slow\n$/,
  )
  await shareSeen('told', (n) => n === 0)
  expect(await rollout('told', 'pause')).toMatchObject({
    exit: 3,
    err: expect.stringContaining('canary is aborted by admin') as string,
  })
  expect((await rollout('told', 'end')).out).toBe('told: canary has its weight in the file again\n')
  await shareSeen('told', (n) => n > 2 && n < 24)
  const { out } = await cli.run('rollout', 'told')
  const events = Array.from(out.matchAll(/\b(start|pause|resume|abort|end)\b/g), ([word]) => word)
  expect(events).toEqual(['end', 'abort', 'resume', 'pause', 'start'])
})

it('ends with a file that changes its model’s arms, which says so, and with no other', async () => {
  const apply = (change: (fleet: FleetInput) => void): Promise<Ran> => {
    const fleet = parse(stack.yaml) as FleetInput
    change(fleet)
    writeFileSync(FILE, stringify(fleet))
    return cli.run('apply', FILE)
  }
  expect((await rollout('filed', '50%', '100%', '--every', '1h')).exit).toBe(0)
  await shareSeen('filed', (n) => n > 18)
  const newcomers = await newcomersOf('filed')

  const other = await apply(({ models }) => {
    models['told']!.arms[1]!.weight = 30
  })
  expect(other.exit).toBe(0)
  expect(other.out).not.toContain('has ended')
  expect(await newcomersOf('filed')).toEqual(newcomers)

  const own = await apply(({ models }) => {
    models['told']!.arms[1]!.weight = 30
    models['filed']!.arms[1]!.weight = 1
  })
  expect(own.out).toContain(
    "filed: the rollout of canary has ended, since the model's arms are others now",
  )
  const { arms, changes = [] } = await statusOf('filed')
  expect(arms[1]).toMatchObject({ rollout: null, fileWeight: 1, weight: 1 })
  expect(changes[0]).toMatchObject({ event: 'version', share: null })
  await shareSeen('filed', (n) => n < 6)
})
