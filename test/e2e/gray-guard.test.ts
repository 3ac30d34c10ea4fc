/**
 * Canaries that do worse than what they are to replace, under the same traffic as one that does not: each is
 * off within its guard's window, for everybody, and operators are told; the good one stays.
 */
import { Agent, createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ArmStatus, ModelStatus } from '../../durable-objects/fleet/contract.ts'
import { isWhole, keyOf } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { allReady, CHAT, operator, poolStatus } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf } from '../support/tenants.ts'

/** A canary that cuts a tenth is found out after three hundred requests or so: time for them on a busy machine. */
const WINDOW_MS = 30_000
/** How soon after a guard's word nobody new comes to the arm. */
const SOON_MS = 3_000
const SHARE = 40
const BAD = ['cuts', 'slow', 'mute', 'gone'] as const
const GOOD = 'good'
const MODELS = [...BAD, GOOD]
/** Gets copies of what the good model is asked, and does badly. */
const SHADOW = 'good-shadow'

/** Times that are far above those of a busy machine's own, so that three times as much is seen as that. */
const usualMs = (pool: string): number => (pool.startsWith('slow') ? 400 : 10)
const profileOf = (pool: string, times = 1) => ({
  ttftBaseMs: times * usualMs(pool),
  prefillMsPerToken: 0,
  itlBaseMs: 2,
  itlMsPerRunning: 0,
})

/** What the webhook's receiver was told. */
const told: Record<string, unknown>[] = []
const agent = new Agent({ keepAlive: true })
let receiver: Server
let stack: Stack
let keys: readonly string[]

interface Seen {
  readonly model: string
  readonly cohort: string
  /** Unix milliseconds. */
  readonly sentAt: number
  readonly arm: unknown
  readonly status: number
  readonly text: string
}
const seen: Seen[] = []

beforeAll(async () => {
  receiver = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      told.push(JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>)
      response.end()
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  const { port } = receiver.address() as AddressInfo
  stack = await startStack({
    viaNginx: true,
    sims: [...MODELS.flatMap((model) => [model, `${model}-next`]), SHADOW].map((pool) => ({
      id: pool,
      pool,
      slots: 64,
      options: { profile: profileOf(pool) },
    })),
    pools: { 'gone-next': { health: { every: '1s', timeout: '990ms', down_after: 1 } } },
    secrets: { ALERT_URL: `http://127.0.0.1:${port}/alerts` },
    fleet: {
      models: Object.fromEntries(
        MODELS.map((model) => [
          model,
          {
            arms: [
              { pool: model, weight: 100 - SHARE },
              { pool: `${model}-next`, weight: SHARE, name: 'canary' },
            ],
            guard: { window: `${WINDOW_MS / 1_000}s`, min_requests: 20 },
            ...(model === GOOD && { shadow: { pool: SHADOW, share: 0.3 } }),
          },
        ]),
      ),
      webhooks: [{ url_secret: 'ALERT_URL', events: ['guard'] }],
    },
  })
  await allReady(stack)
  keys = [stack.apiKey, await tenantsOf(stack).create('other')]
  const traffic = MODELS.flatMap((model) =>
    Array.from({ length: lanesOf(model) }, (_, i) => lane(model, i)),
  )
  // All are well at first, as far as anybody knows: then four of them are not.
  await eventually(
    statuses,
    (all) => all.every(({ arms }) => arms.every(({ figures }) => (figures?.requests ?? 0) > 0)),
    20_000,
  )
  await takeDown('gone')
  await stack.sims['cuts-next']!.setFault({ kind: 'cut', afterChunks: 3, oneIn: 10 })
  await stack.sims['mute-next']!.setFault({ kind: 'empty' })
  stack.sims['slow-next']!.setProfile(profileOf('slow', 3))
  await stack.sims[SHADOW]!.setFault({ kind: 'cut', afterChunks: 3, oneIn: 2 })
  await eventually(
    statuses,
    (all) => BAD.every((name) => canaryOf(all, name).share === 0),
    WINDOW_MS,
  )
    .catch(() => undefined) // told by the tests, each of its own
    .then(() => sleep(SOON_MS + 1_000))
  over = true
  await Promise.all(traffic)
})
afterAll(async () => {
  over = true
  agent.destroy()
  await stack?.stop()
  receiver?.closeAllConnections()
  receiver?.close()
})

/** What fails now and then takes many requests to be told from chance; what fails always does not. */
const lanesOf = (model: string): number => (model === 'cuts' || model === GOOD ? 8 : 4)
const USERS = 150
let over = false
/** Models that nobody asks just now. */
const resting = new Set<string>()

/** While nobody asks: then no request ever fails by its canary's instance, which none reaches any more. */
async function takeDown(model: string): Promise<void> {
  const pool = `${model}-next`
  resting.add(model)
  await eventually(
    () => poolStatus(stack, pool),
    ({ instances }) => instances.every(({ inFlight }) => inFlight === 0),
  )
  await stack.sims[pool]!.setFault({ kind: 'refuse' })
  await eventually(
    () => poolStatus(stack, pool),
    ({ instances }) => instances.every(({ state }) => state === 'down'),
  )
  resting.delete(model)
}

/** One user of one of two tenants after the other, over and over. */
async function lane(model: string, first: number): Promise<void> {
  for (let i = first; !over; i += lanesOf(model)) {
    const key = i % keys.length
    if (!resting.has(model)) await once(model, key, `u-${Math.floor(i / keys.length) % USERS}`)
    await sleep(30)
  }
}

async function once(model: string, key: number, user: string, turns: object[] = []): Promise<Seen> {
  const sentAt = Date.now()
  const { status, headers, text } = await ask(stack.url + CHAT, {
    agent,
    headers: keyOf({ apiKey: keys[key]! }),
    body: {
      model,
      user,
      stream: true,
      max_tokens: 6,
      messages: [{ role: 'user', content: 'hi' }, ...turns],
    },
  })
  const arm = headers['x-penstock-arm']
  const one = { model, cohort: `${key} ${user}`, sentAt, arm, status, text }
  seen.push(one)
  return one
}

const statuses = async () =>
  (await operator(stack, 'GET', '/admin/models')).json['models'] as readonly ModelStatus[]
const statusOf = (all: readonly ModelStatus[], model: string): ModelStatus =>
  all.find((status) => status.model === model)!
const canaryOf = (all: readonly ModelStatus[], model: string): ArmStatus =>
  statusOf(all, model).arms[1]!
/** What came of the requests to one model, in the order they were sent. */
const seenOf = (model: string) =>
  seen.filter((one) => one.model === model).toSorted((a, b) => a.sentAt - b.sentAt)

describe.each([
  {
    model: 'cuts',
    does: 'cuts a tenth of its streams',
    why: /^errors (?:[5-9]|1\d)\.\d % of \d+ requests, the other arms 0\.0 % of \d+$/,
  },
  {
    model: 'slow',
    does: 'takes three times as long to its first token',
    why: /^TTFT p95 \d.* of \d+ requests, the other arms \d.* of \d+$/,
  },
  {
    model: 'mute',
    does: 'has nothing to say',
    why: /^empty answers \d+\.\d % of \d+ requests, the other arms 0\.0 % of \d+$/,
  },
  {
    model: 'gone',
    does: 'is wholly down',
    why: /^errors \d+\.\d % of \d+ requests, the other arms 0\.0 % of \d+$/,
  },
])('a canary that $does', ({ model, why }) => {
  it('is off within the window, with the figure that says why', async () => {
    const all = await statuses()
    const { share, fileWeight, rollout } = canaryOf(all, model)
    expect({ share, fileWeight, rollout }).toMatchObject({
      share: 0,
      fileWeight: SHARE,
      rollout: { state: 'guarded', by: 'guard' },
    })
    expect(rollout?.why).toMatch(why)
    const { changes = [] } = statusOf(all, model)
    expect(changes).toMatchObject([{ event: 'guard', arm: 'canary', share: 0, by: 'guard' }])
  })

  it('gets nobody any more, and whoever was there is served by the other arm', async () => {
    const { changes = [] } = statusOf(await statuses(), model)
    const turnedAt = changes[0]!.at
    const late = seenOf(model).filter(({ sentAt }) => sentAt > turnedAt + SOON_MS)
    expect(late.length).toBeGreaterThan(3)
    expect([...new Set(late.map(({ arm, status }) => `${String(arm)} ${status}`))]).toEqual([
      'stable 200',
    ])
    expect(late.every(({ text }) => isWhole(text))).toBe(true)
    const left = seenOf(model).find(({ arm }) => arm === 'canary')!
    const [key, user] = left.cohort.split(' ')
    const goneOn = await once(model, Number(key), user!, [
      { role: 'assistant', content: 'yes?' },
      { role: 'user', content: 'go on' },
    ])
    expect(goneOn, 'also in the middle of a conversation').toMatchObject({ arm: 'stable' })
  })

  it('is told of, once', async () => {
    const ofIt = () => told.filter((notice) => notice['model'] === model)
    await eventually(ofIt, ({ length }) => length > 0)
    expect(ofIt()).toEqual([
      {
        event: 'guard',
        model,
        arm: 'canary',
        why: canaryOf(await statuses(), model).rollout?.why,
        at: expect.any(Number) as number,
        fleet: 1,
      },
    ])
  })
})

describe('a canary that does as well as the others', () => {
  it('keeps its share, and everybody his arm', async () => {
    const all = await statuses()
    const { share, rollout, figures } = canaryOf(all, GOOD)
    expect({ share, rollout, changes: statusOf(all, GOOD).changes }).toEqual({
      share: SHARE,
      rollout: null,
      changes: [],
    })
    expect(figures).toMatchObject({ failed: 0, truncated: 0, empty: 0 })
    const answers = seenOf(GOOD)
    expect(answers.every(({ status, text }) => status === 200 && isWhole(text))).toBe(true)
    const arms = new Map<string, Set<unknown>>()
    for (const { cohort, arm } of answers) {
      arms.set(cohort, (arms.get(cohort) ?? new Set()).add(arm))
    }
    expect([...arms.values()].every(({ size }) => size === 1)).toBe(true)
    const onCanary = answers.filter(({ arm }) => arm === 'canary').length / answers.length
    expect(onCanary).toBeGreaterThan(0.25)
    expect(onCanary).toBeLessThan(0.55)
    expect(told.filter((notice) => notice['model'] === GOOD)).toEqual([])
  })
  it('has the figures of a shadow beside its own, which turn nobody off', async () => {
    const { shadow, arms } = statusOf(await statuses(), GOOD)
    expect(shadow).toMatchObject({ pool: SHADOW, share: 0.3 })
    const { requests, truncated, failed, lost } = shadow!.figures!
    expect(requests).toBeGreaterThan(20)
    expect(truncated / requests).toBeGreaterThan(0.1)
    expect({ failed, lost }).toEqual({ failed: 0, lost: 0 })
    const real = arms.reduce((sum, arm) => sum + (arm.figures?.requests ?? 0), 0)
    expect(requests, 'a share of the real ones').toBeLessThan(real * 0.5)
  })
})
