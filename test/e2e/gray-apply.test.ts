/** Versions under contention and crashes: of two operators one wins and the other is told; what is there is whole. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { isWhole, type Fields } from '../support/e2e-api.ts'
import { ask, type Received } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { allReady, chat, chatOpen, operator, QUICK } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'

const POOLS = ['p', 'q']

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    sims: POOLS.flatMap((pool) => [
      { id: `${pool}-1`, pool, options: { profile: { ...QUICK, itlBaseMs: 20 } } },
      { id: `${pool}-2`, pool, options: { profile: { ...QUICK, itlBaseMs: 20 } } },
    ]),
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())
beforeEach(() => stack.admin.applyFleet(stack.yaml))

/** The stack's own file with other slots in both pools, and a model of that name. */
function fileWith(slots: number, model: string): string {
  const fleet = parse(stack.yaml) as FleetInput
  for (const pool of POOLS) for (const one of fleet.pools[pool]!.instances) one.slots = slots
  fleet.models[model] = { arms: [{ pool: 'p' }] }
  return stringify(fleet)
}

interface Put {
  readonly status: number
  readonly json: Fields & { readonly error?: { readonly message: string; readonly code: string } }
}

const put = async (yaml: string, ifMatch: number, token: string): Promise<Put> => {
  const { status, text } = await ask(`${stack.url}/admin/fleet`, {
    method: 'PUT',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/yaml',
      'if-match': String(ifMatch),
    },
    body: yaml,
  })
  return { status, json: JSON.parse(text) as Put['json'] }
}
const current = async (): Promise<VersionFile> =>
  (await operator(stack, 'GET', '/admin/fleet')).json as unknown as VersionFile
const tokenOf = async (name: string): Promise<string> => {
  const body = { name, role: 'operator' }
  return (await operator(stack, 'POST', '/admin/tokens', { body })).json['token'] as string
}
/** Status and version of an answer; of a refusal there is no version to tell. */
const fleetOf = ({ status, headers }: Received) => {
  const fleet = headers['x-penstock-fleet']
  return fleet === undefined ? [status] : [status, Number(fleet)]
}
/** For how long a router may go by what it knew. */
const NEWS_MS = 2_000
const answers = (model: string, isSo: readonly number[]) =>
  eventually(
    async () => fleetOf(await chat(stack, model)),
    (seen) => seen.join() === isSo.join(),
    NEWS_MS,
  )
/** The versions that the pools run, and the slots that their instances have. */
const running = async () => {
  const pools = await stack.admin.pools()
  return {
    fleets: [...new Set(pools.map(({ fleet }) => fleet))],
    slots: [...new Set(pools.flatMap(({ instances }) => instances.map(({ slots }) => slots)))],
  }
}

it('of two operators who apply at once one wins, and the other is told who', async () => {
  const operators = [
    { name: 'ann', token: await tokenOf('ann'), yaml: fileWith(3, 'of-ann') },
    { name: 'bob', token: await tokenOf('bob'), yaml: fileWith(4, 'of-bob') },
  ]
  for (let round = 0; round < 4; round++) {
    const { version, yaml: before } = await current()
    const puts = await Promise.all(operators.map(({ yaml, token }) => put(yaml, version, token)))
    expect(new Set(puts.map(({ status }) => status))).toEqual(new Set([200, 412]))
    const won = puts.findIndex(({ status }) => status === 200)
    const [winner, loser] = [operators[won]!, operators[1 - won]!]
    expect(puts[1 - won]!.json).toMatchObject({
      version: version + 1,
      error: {
        code: 'conflict',
        message: `The current fleet version is ${version + 1}, not ${version}: ${winner.name} has made it meanwhile.`,
      },
    })
    expect(await current()).toMatchObject({
      version: version + 1,
      by: winner.name,
      yaml: winner.yaml,
    })
    await answers(`of-${winner.name}`, [200, version + 1])
    await answers(`of-${loser.name}`, [404])

    // Whoever lost looks at what is there, and goes on from that.
    expect(await put(loser.yaml, version + 1, loser.token)).toMatchObject({ status: 200 })
    await answers(`of-${loser.name}`, [200, version + 2])
    const back = await operator(stack, 'POST', '/admin/fleet/rollback', { body: { version } })
    expect(back).toMatchObject({ status: 200, json: { version: version + 3, changed: true } })
    expect(await current()).toMatchObject({ version: version + 3, yaml: before })
    await answers('p', [200, version + 3])
    await answers(`of-${loser.name}`, [404])
  }
})

it.each(['unsent', 'half-sent'] as const)(
  'a crash with the new version %s leaves one that is whole, and cuts nothing',
  async (when) => {
    const { version, yaml: before } = await current()
    const streams = await Promise.all(
      POOLS.map((pool) => chatOpen(stack, pool, { max_tokens: 100 })),
    )
    for (const stream of streams) await stream.until(/data: /)

    const after = fileWith(5, 'fresh')
    await stack.crashFleetAt(when)
    const failed = await put(after, version, stack.adminToken)
    expect(failed).toMatchObject({ status: 503, json: { error: { code: 'router_unavailable' } } })

    const there = await current()
    const isNew = there.version === version + 1
    // What a pool has taken was stored before: it is never ahead of the truth.
    if (when === 'half-sent') expect(isNew).toBe(true)
    expect(there).toMatchObject(
      isNew ? { version: version + 1, yaml: after } : { version, yaml: before },
    )
    await eventually(
      async () => {
        const answers = await Promise.all(POOLS.map((pool) => chat(stack, pool)))
        return { ...(await running()), seen: answers.map(fleetOf) }
      },
      ({ fleets, slots, seen }) =>
        fleets.join() === String(there.version) &&
        slots.join() === (isNew ? '5' : '8') &&
        seen.every(([status, fleet]) => status === 200 && fleet === there.version),
    )
    expect((await chat(stack, 'fresh')).status).toBe(isNew ? 200 : 404)

    const again = await put(after, there.version, stack.adminToken)
    expect(again).toMatchObject({
      status: 200,
      json: {
        version: version + 1,
        changed: !isNew,
        pools: POOLS.map((pool) => ({ pool, taken: true, version: version + 1 })),
      },
    })
    for (const { ended } of streams) {
      const { text, complete } = await ended
      expect(complete && isWhole(text)).toBe(true)
    }
  },
)
