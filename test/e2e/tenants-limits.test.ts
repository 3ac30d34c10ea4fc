/** What a tenant is told of its limits, quotas and budgets, and what the SDKs make of it. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import OpenAI, { RateLimitError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, type Received } from '../support/e2e-http.ts'
import { generating, keyOf, type AnyAnswer } from '../support/e2e-api.ts'
import { ALL, CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { keyIdOf, tenantsOf, type Tenants } from '../support/tenants.ts'

let stack: Stack
let tenants: Tenants
let receiver: Server
/** What the webhook's receiver was told. */
const told: { tenant: string; key: string | null; percent: number; currency: string }[] = []

beforeAll(async () => {
  receiver = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      told.push(JSON.parse(Buffer.concat(parts).toString()) as (typeof told)[number])
      response.end()
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  const { port } = receiver.address() as AddressInfo
  stack = await startStack({
    sims: [{ id: 'a', pool: 'pool', slots: 64, options: { profile: 'instant' } }],
    secrets: { ALERT_URL: `http://127.0.0.1:${port}/alerts` },
    fleet: {
      // A euro for a token of an answer.
      models: {
        pool: {
          arms: [{ pool: 'pool' }],
          price: { prompt: 0, completion: 1_000_000 },
        },
      },
      billing: { currency: 'EUR' },
      webhooks: [{ url_secret: 'ALERT_URL', events: ['budget'] }],
      plans: {
        shown: { rpm: 500, tpm: 100_000 },
        slow: { rpm: 2 },
        alone: { concurrency: 1 },
        narrow: { tpm: 200 },
        daily: { tokens_per_day: 100 },
        watched: { rpm: 1, tokens_per_month: 5, dry_run: true },
      },
    },
  })
  tenants = tenantsOf(stack)
})
afterAll(async () => {
  await stack?.stop()
  receiver?.closeAllConnections()
  receiver?.close()
})

const chat = (key: string, more = {}, headers = {}): Promise<Received> =>
  ask(stack.url + CHAT.path, {
    headers: { ...keyOf({ apiKey: key }), ...headers },
    body: CHAT.body('pool', 'how many', { max_tokens: 4, ...more }),
  })

const errorOf = ({ text }: Received) => (JSON.parse(text) as AnyAnswer).error!
const codes = (answers: readonly Received[]): unknown[] =>
  answers.map((answer) => (answer.status === 200 ? 200 : errorOf(answer).code))

const DURATION = /^(?:\d+ms|(?:\d+m)?\d+(?:\.\d)?s)$/

describe('the headers of an answer', () => {
  it.each(ALL.flatMap((row) => [true, false].map((stream) => ({ row, stream }))))(
    '$row.path, stream $stream: say what is left of the minute',
    async ({ row, stream }) => {
      const id = `shown${row.path.replaceAll(/[^a-z]/g, '')}${stream}`.toLowerCase()
      const key = await tenants.create(id, { plan: 'shown' })
      const body = row.body('pool', 'what is left', { max_tokens: 2, stream })
      const { status, headers } = await ask(stack.url + row.path, {
        headers: keyOf({ apiKey: key }),
        body,
      })
      expect(status).toBe(200)
      expect(headers).toMatchObject({
        'x-ratelimit-limit-requests': '500',
        'x-ratelimit-remaining-requests': '499',
        'x-ratelimit-reset-requests': expect.stringMatching(DURATION) as string,
        'x-ratelimit-limit-tokens': '100000',
        'x-ratelimit-reset-tokens': expect.stringMatching(DURATION) as string,
      })
      expect(Number(headers['x-ratelimit-remaining-tokens'])).toBeLessThanOrEqual(100_000)
    },
  )

  it('may be read by a script in a browser, refusal or not', async () => {
    const key = await tenants.create('browser', { plan: 'slow' })
    const answers = [1, 2, 3].map(() => chat(key, {}, { origin: 'https://app.example.com' }))
    const [first, , refused] = await Promise.all(answers)
    for (const { headers } of [first!, refused!]) {
      const exposed = String(headers['access-control-expose-headers']).split(', ')
      expect(exposed).toEqual(
        expect.arrayContaining([
          'x-ratelimit-remaining-requests',
          'x-ratelimit-reset-tokens',
          'retry-after',
          'x-should-retry',
          'x-penstock-dry-run',
        ]),
      )
    }
  })
})

describe('a limit per minute', () => {
  it('refuses with the time to wait, and what is left', async () => {
    const key = await tenants.create('minute', { plan: 'slow' })
    const answers = [await chat(key), await chat(key, { stream: true }), await chat(key)]
    expect(codes(answers)).toEqual([200, 200, 'rate_limit_exceeded'])
    const { status, headers } = answers[2]!
    expect(status).toBe(429)
    expect(headers).toMatchObject({
      'x-ratelimit-limit-requests': '2',
      'x-ratelimit-remaining-requests': '0',
    })
    const wait = Number(headers['retry-after'])
    expect(wait).toBeGreaterThan(50)
    expect(wait).toBeLessThanOrEqual(60)
    expect(headers['x-should-retry']).toBeUndefined()
    expect(errorOf(answers[2]!)).toMatchObject({ type: 'rate_limit_error', param: null })
  })

  it('is the narrower of the tenant’s and the key’s', async () => {
    await tenants.create('keys', { plan: 'shown' })
    const key = await tenants.createKey('keys', { rpm: 1 })
    const [first, second] = [await chat(key), await chat(key)]
    expect(first.headers['x-ratelimit-limit-requests']).toBe('1')
    expect(codes([first, second])).toEqual([200, 'rate_limit_exceeded'])
    expect(codes([await chat(await tenants.createKey('keys'))])).toEqual([200])
  })

  it('counts a refused request for nothing', async () => {
    const key = await tenants.create('nothing', { plan: 'narrow' })
    expect(codes([await chat(key, { max_tokens: 100 })])).toEqual([200])
    for (let i = 0; i < 5; i++) {
      expect(codes([await chat(key, { max_tokens: 150 })])).toEqual(['rate_limit_exceeded'])
    }
    expect(codes([await chat(key, { max_tokens: 50 })])).toEqual([200])
  })

  it('says so where a prompt can never pass', async () => {
    const key = await tenants.create('never', { plan: 'narrow' })
    const long = { messages: [{ role: 'user', content: 'long '.repeat(400) }] }
    const answer = await chat(key, long)
    expect(codes([answer])).toEqual(['rate_limit_exceeded'])
    expect(answer.headers['retry-after']).toBeUndefined()
    expect(answer.headers['x-should-retry']).toBe('false')
  })

  it('makes the SDK wait, and then go on', async () => {
    const key = await tenants.create('waits', { plan: 'alone' })
    await stack.sims['a']!.setFault({ kind: 'late-start', ms: 1_200, times: 1 })
    const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: key, maxRetries: 4 })
    const body = CHAT.body('pool', 'patience', { max_tokens: 2 }) as never
    const begun = performance.now()
    const first = client.chat.completions.create(body)
    await eventually(
      () => tenants.show('waits'),
      ({ running }) => running === 1,
    )
    const second = await client.chat.completions.create(body).withResponse()
    expect(second.response.status).toBe(200)
    expect(performance.now() - begun).toBeGreaterThan(1_000)
    await first
    const [row] = await tenants.usage('waits')
    expect(row?.requests).toBe(2)
    expect(row?.limited).toBeGreaterThanOrEqual(1)
    expect(row?.limited).toBeLessThanOrEqual(3)
  })
})

describe('what is used up', () => {
  it('is refused without a time to wait, and the SDK does not try again', async () => {
    const key = await tenants.create('daily', { plan: 'daily' })
    expect(codes([await chat(key, { max_tokens: 60 })])).toEqual([200])
    await tenants.idle('daily')
    const answer = await chat(key, { max_tokens: 60 })
    expect(answer.status).toBe(429)
    expect(errorOf(answer)).toMatchObject({
      code: 'insufficient_quota',
      type: 'insufficient_quota',
      message: expect.stringMatching(/\d+ are left until 20\d\d-/) as string,
    })
    expect(answer.headers['x-should-retry']).toBe('false')
    expect(answer.headers['retry-after']).toBeUndefined()
    const [before] = await tenants.usage('daily')
    const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: key, maxRetries: 3 })
    const body = CHAT.body('pool', 'again', { max_tokens: 60 }) as never
    const error: unknown = await client.chat.completions.create(body).catch((it: unknown) => it)
    expect(error).toBeInstanceOf(RateLimitError)
    const [after] = await tenants.usage('daily')
    expect(after!.limited - before!.limited).toBe(1)
  })

  it('of a budget is told at 80 and 100 %, once each, and refused where it says stop', async () => {
    const key = await tenants.create('budget', { budget: { monthly: 20, stop: true } })
    const own = await tenants.createKey('budget', { budget: { monthly: 4 } })
    const spend = async (by: string): Promise<unknown[]> => {
      const answers = codes([await chat(by)])
      await tenants.idle('budget')
      return answers
    }
    for (let i = 0; i < 3; i++) expect(await spend(key)).toEqual([200]) // 12 of 20
    expect(await spend(own)).toEqual([200]) // 16: 80 %, and all of the key's
    expect(await spend(own)).toEqual([200]) // 20: its own budget does not stop it
    expect(await spend(key)).toEqual(['insufficient_quota'])
    const mine = () => told.filter(({ tenant }) => tenant === 'budget')
    await eventually(mine, (notices) => notices.length >= 4)
    expect(
      mine()
        .map((it) => `${it.key ?? 'tenant'} ${it.percent} ${it.currency}`)
        .sort(),
    ).toEqual(
      [
        `${keyIdOf(own)} 100 EUR`,
        `${keyIdOf(own)} 80 EUR`,
        'tenant 100 EUR',
        'tenant 80 EUR',
      ].sort(),
    )
    expect((await tenants.show('budget')).costThisMonth).toBe(20)
    // Who knows the receiver's URL may write there.
    expect(stack.logs().join('\n')).not.toContain('/alerts')
  })
})

it('a dry run lets everything through, and says what it would have refused', async () => {
  const key = await tenants.create('dry', { plan: 'watched' })
  const answers = []
  for (let i = 0; i < 3; i++) {
    answers.push(await chat(key))
    await tenants.idle('dry')
  }
  expect(codes(answers)).toEqual([200, 200, 200])
  const [, second] = answers.map(({ headers }) => headers['x-penstock-dry-run'])
  expect(['rate_limit_exceeded', 'insufficient_quota']).toContain(second)
  const [row] = await tenants.usage('dry')
  expect(row?.requests).toBe(3)
  expect(row?.limited).toBeGreaterThanOrEqual(2)
})

it('the ledger says what the instance has counted, and what it cost', async () => {
  const key = await tenants.create('ledger')
  const sim = stack.sims['a']!
  sim.clearRequests()
  for (const row of ALL.filter(({ path }) => !path.includes('audio'))) {
    for (const stream of [true, false]) {
      const body = row.body('pool', 'count me', { max_tokens: 3, stream })
      await ask(stack.url + row.path, { headers: keyOf({ apiKey: key }), body })
    }
  }
  await tenants.idle('ledger')
  const records = generating(sim).filter(({ path }) => !path.includes('count_tokens'))
  const [row] = await tenants.usage('ledger')
  const sum = (of: 'promptTokens' | 'tokensGenerated') =>
    records.reduce((total, record) => total + record[of], 0)
  expect(row).toMatchObject({
    promptTokens: sum('promptTokens'),
    completionTokens: sum('tokensGenerated'),
    estimatedTokens: 0,
    cost: sum('tokensGenerated'),
  })
})
