/**
 * Two hundred clients at four services of the Worker, for more than two minutes, against one limit of
 * each kind: in no sixty seconds is more let in than there is, and nobody who leaves keeps a place.
 */
import { Agent } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import { generating, keyOf, mostAtOnce } from '../support/e2e-api.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { CHAT } from '../support/e2e-table.ts'
import { sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'

const SECONDS = Number(process.env['LOAD_SECONDS'] ?? 75)
const CLIENTS = 200
const MINUTE_MS = 60_000
const RPM = 240
const CONCURRENCY = 16
const TPM = 20_000
const OUTPUT = 40
/** Between two tries of one client that was refused, in milliseconds. */
const PAUSE_MS = 400
/** The news that a client has left is on its way to the instance for so long, at most. */
const NEWS_MS = 100

let stack: Stack
let tenants: Tenants
const agent = new Agent({ keepAlive: true })
beforeAll(async () => {
  const options = { keepBodies: false, profile: { ttftBaseMs: 30, itlBaseMs: 4 } }
  stack = await startStack({
    services: 4,
    sims: ['requests', 'few', 'tokens'].map((id) => ({ id, pool: id, slots: 400, options })),
    fleet: {
      plans: {
        requests: { rpm: RPM },
        few: { concurrency: CONCURRENCY },
        tokens: { tpm: TPM },
      },
    },
  })
  tenants = tenantsOf(stack)
})
afterAll(async () => {
  agent.destroy()
  await stack?.stop()
})

/** When a request was sent, by id; Unix milliseconds. */
const sentAt = new Map<string, number>()

const bodyOf = (plan: string): object =>
  CHAT.body(plan, 'as much as there is', { max_tokens: OUTPUT, stream: Math.random() < 0.5 })

const once = (plan: string, key: string): Promise<Received> =>
  ask(stack.url + CHAT.path, { headers: keyOf({ apiKey: key }), body: bodyOf(plan) })

/** One client, until the end: asks, leaves now and then, and waits a little when it is refused. */
async function client(plan: string, key: string, i: number, until: number): Promise<number> {
  let refused = 0
  while (Date.now() < until) {
    const leaving = new AbortController()
    const leaves = plan !== 'tokens' && Math.random() < 0.3
    const timer = leaves ? setTimeout(() => leaving.abort(), Math.random() * 200) : undefined
    const sent = Date.now()
    try {
      const opened = await open(stack.services[i % stack.services.length]! + CHAT.path, {
        headers: keyOf({ apiKey: key }),
        body: bodyOf(plan),
        agent,
        signal: leaving.signal,
      })
      sentAt.set(String(opened.headers['x-request-id']), sent)
      const { status, text } = await opened.ended
      if (status === 429) {
        refused++
        await sleep(PAUSE_MS * (0.5 + Math.random()))
      } else if (status !== 200) throw new Error(`${status} ${text}`)
    } catch (error) {
      if (!leaving.signal.aborted) throw error
    } finally {
      clearTimeout(timer)
    }
  }
  return refused
}

/**
 * The most that was certainly let in within sixty seconds: what was sent after their beginning, and
 * was at the instance before their end.
 */
function mostInAMinute(
  records: readonly RequestRecord[],
  weight: (record: RequestRecord) => number = () => 1,
): number {
  const spans = records
    .map((record) => {
      const { id, arrivedAt } = record
      return { from: sentAt.get(id ?? '') ?? arrivedAt, to: arrivedAt, weight: weight(record) }
    })
    .sort((a, b) => a.from - b.from)
  let most = 0
  for (const [i, { from }] of spans.entries()) {
    let sum = 0
    for (const span of spans.slice(i)) {
      if (span.from >= from + MINUTE_MS) break
      if (span.to < from + MINUTE_MS) sum += span.weight
    }
    most = Math.max(most, sum)
  }
  return most
}

it('lets nobody have more than the plan says, for minutes', async () => {
  const plans = ['requests', 'few', 'tokens']
  const keys = new Map<string, string>()
  for (const plan of plans) keys.set(plan, await tenants.create(plan, { plan }))
  for (const sim of Object.values(stack.sims)) sim.clearRequests()
  const { headers } = await once('tokens', keys.get('tokens')!)
  const estimate = TPM - OUTPUT - Number(headers['x-ratelimit-remaining-tokens'])
  const until = Date.now() + SECONDS * 1_000
  const refused = await Promise.all(
    Array.from({ length: CLIENTS }, (_, i) => {
      const plan = plans[i % plans.length]!
      return client(plan, keys.get(plan)!, i, until)
    }),
  )
  for (const plan of plans) await tenants.idle(plan, 10_000)

  const seen = (plan: string) => generating(stack.sims[plan]!)
  const used = (it: RequestRecord) => it.promptTokens + it.tokensGenerated
  const requests = mostInAMinute(seen('requests'))
  const atOnce = mostAtOnce(seen('few'), NEWS_MS)
  const tokens = mostInAMinute(seen('tokens'), used)
  // A prompt is reserved for what it is taken for, and put right when its request ends: so much may be
  // too little for as many as run at once.
  const error = mostAtOnce(seen('tokens')) * (seen('tokens')[0]!.promptTokens - estimate)
  console.log(
    `${SECONDS} s, ${CLIENTS} clients: ${refused.reduce((a, b) => a + b, 0)} refused. ` +
      `Most requests in sixty seconds ${requests} of ${RPM} (${seen('requests').length} in all), ` +
      `most at once ${atOnce} of ${CONCURRENCY} (${seen('few').length} in all), ` +
      `most tokens in sixty seconds ${tokens} of ${TPM}, reservation error ${error} (${seen('tokens').length} in all).`,
  )
  expect(requests).toBeLessThanOrEqual(RPM)
  expect(atOnce).toBeLessThanOrEqual(CONCURRENCY)
  expect(tokens).toBeLessThanOrEqual(TPM + error)
  // And no less: what there is can be had.
  const minutes = Math.floor((SECONDS * 1_000) / (MINUTE_MS + 200)) + 1
  expect(seen('requests').length).toBeGreaterThan(RPM * (minutes - 1))
  for (const plan of plans) expect((await tenants.show(plan)).running).toBe(0)
})
