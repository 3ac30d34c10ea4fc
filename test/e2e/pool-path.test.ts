/** The way to a site breaks: that is no fault of the instances behind it (L14). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { isWhole } from '../support/e2e-api.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import {
  allReady,
  becomes,
  chat,
  chatOpen,
  codeOf,
  instanceIn,
  many,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { throughTunnels, type Tunnel, type Way } from '../support/pool-tunnel.ts'
import { startStack, type Stack } from '../support/stack.ts'

const FAULTS: readonly Exclude<Way, 'open'>[] = ['530', 'login', 'cut']
const TWO = FAULTS.map((way) => `two-${way}`)
const ONE = FAULTS.map((way) => `one-${way}`)
const EVERY_MS = 1_000
/** How soon the way is known to be down, or a vLLM to be dead: some rounds of looks. */
const KNOWN_MS = 20_000

let stack: Stack
let tunnels: Readonly<Record<string, Tunnel>> & AsyncDisposable
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [...TWO, ...ONE, 'blink', 'dead', 'spare'].flatMap((pool) =>
      ['a', 'b'].map((name) => ({
        id: `${pool}-${name}`,
        pool,
        slots: 64,
        options: { profile: QUICK },
      })),
    ),
    pools: Object.fromEntries(
      [...TWO, ...ONE, 'blink', 'dead'].map((pool) => [
        pool,
        { policy: 'round_robin', breaker: { consecutive: 3, open: '60s' } },
      ]),
    ),
    fleet: {
      defaults: { health: { every: `${EVERY_MS}ms`, timeout: '990ms', down_after: 3 } },
      models: Object.fromEntries(
        [...TWO, ...ONE, 'blink', 'dead', 'spare'].flatMap((pool) => [
          [pool, { arms: [{ pool }] }],
          [`${pool}-or-spare`, { arms: [{ pool }], fallback: ['spare'] }],
        ]),
      ),
    },
  })
  tunnels = await throughTunnels(stack, [...TWO, ...ONE, 'blink', 'dead'], (id) => {
    const pool = id.slice(0, -2)
    if (TWO.includes(pool)) return id.endsWith('-a') ? pool : null
    return pool === 'spare' ? null : pool
  })
  await allReady(stack)
})
afterAll(async () => {
  await tunnels?.[Symbol.asyncDispose]()
  await stack?.stop()
})

const pathOf = ({ paths = [] }: PoolStatus, site: string) =>
  paths.find((path) => path.site === site)

const isDown = (site: string) => (status: PoolStatus) => pathOf(status, site)?.state === 'down'
const isUp = (site: string) => (status: PoolStatus) => pathOf(status, site)?.state === 'up'

/** What the pool thinks of an instance, apart from the way to it. */
const verdict = (status: PoolStatus, id: string) => {
  const { state, breaker } = instanceIn(status, id)
  return { state, breaker }
}
const INNOCENT = { state: 'ready', breaker: 'closed' }

/** Small requests and lists of models, by which an instance is let in. */
const entrances = (id: string) =>
  stack.sims[id]!.requests().filter(({ path }) => /^\/v1\/(?:models|completions)$/.test(path))
    .length

describe('a broken tunnel', () => {
  it.concurrent.each(FAULTS)(
    'costs no tenant anything where another site serves the pool (%s)',
    async (way) => {
      const pool = `two-${way}`
      const [site, first] = [pool, `${pool}-a`]
      const tunnel = tunnels[site]!
      const before = entrances(first)
      const verdicts: object[] = []
      const ask = async (i: number) => {
        const { status, headers } = await chat(stack, pool, { stream: i % 2 === 0 })
        const from = headers['x-penstock-instance']
        verdicts.push(verdict(await poolStatus(stack, pool), first))
        return `${status} ${String(from)}`
      }
      tunnel.way = way
      const whileBroken = await many(24, 4, ask)
      expect(new Set(whileBroken)).toEqual(new Set([`200 ${pool}-b`]))
      const status = await eventually(() => poolStatus(stack, pool), isDown(site), KNOWN_MS)
      expect(instanceIn(status, first).reason).toContain(`the way to ${site} is down`)

      // Known: it is not tried any more.
      const tried = (): Promise<string[]> =>
        many(12, 3, async () => (await chat(stack, pool)).headers['x-penstock-attempts'] as string)
      expect(new Set(await tried())).toEqual(new Set(['1']))
      await sleep(5 * EVERY_MS) // more rounds than it takes to call an instance down
      verdicts.push(verdict(await poolStatus(stack, pool), first))

      tunnel.way = 'open'
      await eventually(() => poolStatus(stack, pool), isUp(site), KNOWN_MS)
      // What was cut a moment ago may be reported after the first answer.
      const back = await eventually(
        async () => new Set(await many(12, 3, ask)),
        ({ size }) => size > 1,
        KNOWN_MS,
      )
      expect(back).toEqual(new Set([`200 ${pool}-a`, `200 ${pool}-b`]))
      expect([...new Set(verdicts.map((it) => JSON.stringify(it)))]).toEqual([
        JSON.stringify(INNOCENT),
      ])
      expect(entrances(first)).toBe(before)
    },
  )

  it.concurrent.each(FAULTS)('leads to the fallback at once, or to 503 (%s)', async (way) => {
    const pool = `one-${way}`
    tunnels[pool]!.way = way
    await eventually(() => poolStatus(stack, pool), isDown(pool), KNOWN_MS)
    for (const stream of [true, false]) {
      const { status, headers } = await chat(stack, `${pool}-or-spare`, { stream })
      expect(status).toBe(200)
      expect(headers).toMatchObject({ 'x-penstock-pool': 'spare', 'x-penstock-attempts': '1' })
      expect(headers['x-penstock-reason']).toContain(`${pool}-or-spare: no_instance_ready`)
      const alone = await chat(stack, pool, { stream })
      expect({ status: alone.status, code: codeOf(alone) }).toEqual({
        status: 503,
        code: 'no_instance_ready',
      })
    }
    for (const id of [`${pool}-a`, `${pool}-b`])
      expect(verdict(await poolStatus(stack, pool), id)).toEqual(INNOCENT)

    // Back with the first look that gets through.
    tunnels[pool]!.way = 'open'
    await eventually(() => poolStatus(stack, pool), isUp(pool), KNOWN_MS)
    expect((await chat(stack, pool)).status).toBe(200)
  })

  it.concurrent('that blinks cuts the streams of all instances, and none of them is blamed', async () => {
    for (const name of ['a', 'b']) stack.sims[`blink-${name}`]!.setProfile({ itlBaseMs: 100 })
    for (let round = 0; round < 2; round++) {
      const streams = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const stream = await chatOpen(stack, 'blink')
          await stream.until(/data: [^]*data: /)
          return stream
        }),
      )
      tunnels['blink']!.blink()
      for (const { ended } of streams) expect(isWhole((await ended).text)).toBe(false)
      await sleep(4 * EVERY_MS) // longer than it takes to be sure
      const { ended } = await poolStatus(stack, 'blink')
      expect(ended.truncated).toBe(8 * (round + 1))
    }
    const status = await poolStatus(stack, 'blink')
    for (const id of ['blink-a', 'blink-b']) expect(verdict(status, id)).toEqual(INNOCENT)
    expect((await chat(stack, 'blink')).status).toBe(200)
  })

  it.concurrent('is not what a dead vLLM behind a healthy Nginx looks like: that one is out', async () => {
    const dead = stack.sims['dead-a']!
    await dead.setFault({ kind: 'refuse' })
    const { reason } = await becomes(
      stack,
      ['dead', 'dead-a'],
      ({ state }) => state === 'down',
      KNOWN_MS,
    )
    expect(reason).toMatch(/502/)
    dead.clearRequests()
    const answers = await many(8, 2, () => chat(stack, 'dead'))
    for (const { status, headers } of answers) {
      expect({ status, attempts: headers['x-penstock-attempts'] }).toEqual({
        status: 200,
        attempts: '1',
      })
    }
    expect(tenantsAt(dead)).toEqual([])
    expect(pathOf(await poolStatus(stack, 'dead'), 'dead')).toMatchObject({ state: 'up' })
  })
})
