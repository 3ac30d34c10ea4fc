/** Two hundred at once, through four services of the Worker, against the limits of one tenant (L32, L33). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { generating, keyOf, mostAtOnce, type AnyAnswer } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'

const CLIENTS = 200
const RPM = 50
const CONCURRENCY = 12
const TPM = 3_000
/** Tokens of one answer where tokens are counted. */
const OUTPUT = 40
/** Of them, a few at a time. */
const AT_ONCE = 20

let stack: Stack
let tenants: Tenants
beforeAll(async () => {
  stack = await startStack({
    services: 4,
    sims: [
      { id: 'a', pool: 'pool', slots: 400, options: { profile: { ttftBaseMs: 5, itlBaseMs: 2 } } },
      { id: 'b', pool: 'slow', slots: 400, options: { profile: { itlBaseMs: 20 } } },
    ],
    fleet: {
      plans: {
        requests: { rpm: RPM },
        changed: { rpm: 100 },
        few: { concurrency: CONCURRENCY },
        tokens: { tpm: TPM },
      },
    },
  })
  tenants = tenantsOf(stack)
})
afterAll(() => stack?.stop())

const urlOf = (i: number): string => stack.services[i % stack.services.length]! + CHAT.path

/** Everybody at the same moment, spread over the services. */
const storm = (key: string, count = CLIENTS, model = 'pool', tokens = 4): Promise<Received[]> =>
  Promise.all(
    Array.from({ length: count }, (_, i) =>
      ask(urlOf(i), {
        headers: keyOf({ apiKey: key }),
        body: CHAT.body(model, 'storm', { max_tokens: tokens, stream: i % 2 === 0 }),
      }),
    ),
  )

const passed = (answers: readonly Received[]) => answers.filter(({ status }) => status === 200)
const refused = (answers: readonly Received[]) => answers.filter(({ status }) => status !== 200)
const codeOf = ({ text }: Received): unknown => (JSON.parse(text) as AnyAnswer).error?.code

describe('one tenant, four services, two hundred clients', () => {
  it('gets exactly its requests a minute, whoever asks first', async () => {
    const key = await tenants.create('requests', { plan: 'requests' })
    stack.sims['a']!.clearRequests()
    const answers = [...(await storm(key)), ...(await storm(key, 40))]
    expect(passed(answers)).toHaveLength(RPM)
    expect(new Set(refused(answers).map(codeOf))).toEqual(new Set(['rate_limit_exceeded']))
    // What was refused reached no instance.
    expect(generating(stack.sims['a']!)).toHaveLength(RPM)
    await tenants.idle('requests')
    expect(
      (await tenants.usage('requests')).map(({ requests, limited }) => [requests, limited]),
    ).toEqual([[RPM, CLIENTS + 40 - RPM]])
  })

  it('never has more running than its concurrency', async () => {
    const key = await tenants.create('few', { plan: 'few' })
    stack.sims['a']!.clearRequests()
    const storms: Received[] = []
    for (let i = 0; i < 2; i++) storms.push(...(await storm(key, CLIENTS, 'pool', 20)))
    const seen = generating(stack.sims['a']!)
    expect(mostAtOnce(seen)).toBeLessThanOrEqual(CONCURRENCY)
    expect(passed(storms).length).toBeGreaterThanOrEqual(2 * CONCURRENCY)
    expect(seen).toHaveLength(passed(storms).length)
    expect(new Set(refused(storms).map(codeOf))).toEqual(new Set(['rate_limit_exceeded']))
    await tenants.idle('few')
  })

  it('uses no more tokens a minute than it has, but for what prompts were taken for too little', async () => {
    const key = await tenants.create('tokens', { plan: 'tokens' })
    stack.sims['a']!.clearRequests()
    const [first] = await storm(key, 1, 'pool', OUTPUT)
    const estimate = TPM - Number(first!.headers['x-ratelimit-remaining-tokens']) - OUTPUT
    const answers = [first!]
    for (let i = 0; i < 5; i++) answers.push(...(await storm(key, AT_ONCE, 'pool', OUTPUT)))
    answers.push(...(await storm(key, CLIENTS, 'pool', OUTPUT)))
    const records = generating(stack.sims['a']!)
    const used = records.reduce((sum, it) => sum + it.promptTokens + it.tokensGenerated, 0)
    // What a prompt is more than it was taken for counts from its request's end on, and so may be too
    // much for as many as run at once.
    const error = mostAtOnce(records) * (records[0]!.promptTokens - estimate)
    expect(records).toHaveLength(passed(answers).length)
    expect(used).toBeLessThanOrEqual(TPM + error)
    // Nor less: what is left is not enough for one more.
    expect(used + estimate + OUTPUT).toBeGreaterThan(TPM)
    expect(new Set(refused(answers).map(codeOf))).toEqual(new Set(['rate_limit_exceeded']))
    await tenants.idle('tokens')
    const { tokensToday } = await tenants.show('tokens')
    expect(tokensToday).toBe(used)
  })

  it('has its places back after aborts, whatever moment they come at', async () => {
    const key = await tenants.create('leaves', { plan: 'few' })
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        Array.from({ length: 60 }, async (_, i) => {
          const leaving = new AbortController()
          const timer = setTimeout(() => leaving.abort(), Math.random() * 150)
          const asked = open(urlOf(i), {
            headers: keyOf({ apiKey: key }),
            body: CHAT.body('slow', 'leaving', { stream: i % 2 === 0, max_tokens: 400 }),
            signal: leaving.signal,
          })
          await asked.then(({ ended }) => ended).catch(() => undefined)
          clearTimeout(timer)
        }),
      )
    }
    await tenants.idle('leaves')
    await sleep(500) // one that was let in after its client had left is let go again
    await tenants.idle('leaves')
    expect(passed(await storm(key, CONCURRENCY))).toHaveLength(CONCURRENCY)
  })

  it('keeps its count over a crash, and has its places back after it', async () => {
    const key = await tenants.create('crashes', { plan: 'few' })
    const streams = await Promise.all(
      Array.from({ length: CONCURRENCY }, async (_, i) => {
        const body = CHAT.body('slow', `crash ${i}`, { stream: true, max_tokens: 120 })
        const opened = await open(urlOf(i), { headers: keyOf({ apiKey: key }), body })
        await opened.until(/data: /)
        return opened
      }),
    )
    await sleep(1_000) // every request has begun to watch its reservation
    await stack.crashTenant('crashes')
    const counted = await eventually(
      () => tenants.show('crashes'),
      ({ running }) => running === CONCURRENCY,
    )
    expect(counted.running).toBe(CONCURRENCY)
    expect(passed(await storm(key, 20))).toHaveLength(0)
    for (const stream of streams.slice(0, 4)) stream.leave('reset')
    await Promise.all(streams.map(({ ended }) => ended))
    await tenants.idle('crashes')
    const rows = await tenants.usage('crashes')
    expect(rows.find(({ model }) => model === 'slow')).toMatchObject({
      requests: CONCURRENCY,
      errors: 0,
      estimatedTokens: 0,
    })
    expect(passed(await storm(key, CONCURRENCY))).toHaveLength(CONCURRENCY)
  })

  it('has used of its minute after a crash what it had used a second before', async () => {
    const key = await tenants.create('minute', { plan: 'requests' })
    expect(passed(await storm(key, RPM))).toHaveLength(RPM)
    await tenants.idle('minute')
    await sleep(1_200) // it is written down once a second
    await stack.crashTenant('minute')
    const after = await storm(key, 20)
    expect(passed(after)).toHaveLength(0)
    expect(after[0]!.headers['x-ratelimit-remaining-requests']).toBe('0')
  })
})

describe('a plan that changes', () => {
  const apply = async (change: (fleet: FleetInput) => void): Promise<void> => {
    const fleet = parse(stack.yaml) as FleetInput
    change(fleet)
    await stack.admin.applyFleet(stringify(fleet))
  }
  const limitsSeen = async (key: string): Promise<number[]> => {
    const answers = await storm(key, 2 * stack.services.length)
    return answers.map(({ headers }) => Number(headers['x-ratelimit-limit-requests']))
  }

  it('is the new one everywhere once it is the new one anywhere', async () => {
    const key = await tenants.create('changed', { plan: 'changed' })
    expect(new Set(await limitsSeen(key))).toEqual(new Set([100]))
    await apply((fleet) => (fleet.plans!['changed'] = { rpm: 200 }))
    // Services learn of a version when they look for it: one knows it before the others do.
    await eventually(
      () => limitsSeen(key),
      (seen) => seen.includes(200),
      30_000,
    )
    for (let i = 0; i < 5; i++) expect(new Set(await limitsSeen(key))).toEqual(new Set([200]))
  })

  it('goes on as it last was for a tenant whose plan there is no more', async () => {
    await apply((fleet) => delete fleet.plans!['changed'])
    await sleep(500)
    const key = await tenants.createKey('changed')
    // Every service asks under what it knows of the fleet, and a busy one learns late.
    await eventually(
      async () => {
        expect(new Set(await limitsSeen(key))).toEqual(new Set([200]))
        return tenants.show('changed')
      },
      ({ planMissing, limits }) => planMissing && limits.rpm === 200,
    )
  })
})
