/** Requests go where the beginning of their prompt is still in a cache, unless too many would. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import {
  allReady,
  becomes,
  chat,
  CHAT,
  many,
  operator,
  poolStatus,
  tenantsAt,
} from '../support/pool-calls.ts'
import type { Received } from '../support/e2e-http.ts'
import { startStack, type Stack } from '../support/stack.ts'

const POLICIES = ['adaptive', 'prefix'] as const
const SIZE = 4
const profile = { ttftBaseMs: 5, prefillMsPerToken: 0.1, itlBaseMs: 3 }

let stack: Stack
beforeAll(async () => {
  const pools = POLICIES.flatMap((policy) => [`talk-${policy}`, `crowd-${policy}`])
  stack = await startStack({
    viaNginx: true,
    sims: [...pools, 'newcomer', 'reset', 'private'].flatMap((pool) =>
      Array.from({ length: SIZE }, (_, i) => ({
        id: `${pool}-${i}`,
        pool,
        slots: 32,
        options: { profile, promptTokensDetails: true },
      })),
    ),
    pools: {
      ...Object.fromEntries(
        pools.map((pool) => [pool, { policy: pool.slice(pool.indexOf('-') + 1) }]),
      ),
      newcomer: { policy: 'prefix', slow_start: '0s' },
      reset: { policy: 'adaptive' },
      private: { policy: 'prefix' },
    },
    fleet: { defaults: { health: { every: '1s', timeout: '990ms' } } },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

interface Message {
  readonly role: string
  readonly content: string
}

const WORDS = 'the water above the valley falls through a gated pipe and turns the wheel'.split(' ')

/** So many plain words, which begin like no other text. */
const textOf = (name: string, words: number): string =>
  [name, ...Array.from({ length: words }, (_, i) => WORDS[i % WORDS.length]!)].join(' ')

/** A conversation that grows with each turn, as a client sends it. */
class Talk {
  readonly #pool: string
  readonly #messages: Message[]

  constructor(pool: string, name: string) {
    this.#pool = pool
    this.#messages = [{ role: 'system', content: textOf(name, 400) }]
  }

  async say(text: string): Promise<Received> {
    this.#messages.push({ role: 'user', content: text })
    const got = await chat(stack, this.#pool, { messages: [...this.#messages], max_tokens: 8 })
    const { choices } = JSON.parse(got.text) as { choices: { message: Message }[] }
    const { role, content } = choices[0]!.message
    this.#messages.push({ role, content })
    return got
  }
}

const expectedHits = ({ headers }: Received): number =>
  Number(/; prefix (\d+) tokens/.exec(String(headers['x-penstock-reason']))?.[1] ?? 0)

const recordsOf = (pool: string): RequestRecord[] =>
  Array.from({ length: SIZE }, (_, i) => tenantsAt(stack.sims[`${pool}-${i}`]!)).flat()

const sum = (records: readonly RequestRecord[], read: (record: RequestRecord) => number): number =>
  records.reduce((total, record) => total + read(record), 0)

describe.each(POLICIES)('a pool that goes by %s', (policy) => {
  it('keeps each conversation where its beginning is cached, and says so (L19)', async () => {
    const pool = `talk-${policy}`
    const talks = Array.from({ length: 6 }, (_, i) => new Talk(pool, `talk${i}x`))
    const places = talks.map(() => new Set<unknown>())
    for (let turn = 0; turn < 4; turn++) {
      for (const [i, talk] of talks.entries()) {
        const got = await talk.say(`question ${turn} of ${i}`)
        places[i]!.add(got.headers['x-penstock-instance'])
        if (turn === 0) expect(expectedHits(got)).toBe(0)
        else expect(expectedHits(got)).toBeGreaterThan(256)
      }
    }
    expect(places.map(({ size }) => size)).toEqual(talks.map(() => 1))
    expect(new Set(places.flatMap((place) => [...place])).size).toBeGreaterThan(1)

    // Of three turns in four the engines had almost all of the prompt.
    const records = recordsOf(pool)
    const cached = sum(records, ({ cachedTokens }) => cachedTokens)
    expect(cached / sum(records, ({ promptTokens }) => promptTokens)).toBeGreaterThan(0.6)
    const { prefix } = await poolStatus(stack, pool)
    expect(prefix).toMatchObject({ requests: 24, compared: 24, actual: cached })
    expect(prefix!.expected / prefix!.actual).toBeGreaterThan(0.6)
    expect(prefix!.expected / prefix!.actual).toBeLessThan(1.4)
  })

  it('spreads conversations that share one giant system prompt (L17)', async () => {
    const pool = `crowd-${policy}`
    const system = { role: 'system', content: textOf('giant', 3_000) }
    const answers = await many(96, 16, (i) => {
      const user = { role: 'user', content: `agent ${i}: ${textOf(`own${i}x`, 60)}` }
      return chat(stack, pool, { messages: [system, user], max_tokens: 24 })
    })
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    const total = recordsOf(pool).length
    for (let i = 0; i < SIZE; i++) {
      const share = tenantsAt(stack.sims[`${pool}-${i}`]!).length / total
      expect(share).toBeGreaterThan(0.1)
      expect(share).toBeLessThan(0.5)
    }
  })
})

it('a system prompt that most instances hold keeps nobody from the one that does not (L17)', async () => {
  const pool = 'newcomer'
  const cold = `${pool}-${SIZE - 1}`
  const system = { role: 'system', content: textOf('shared', 1_000) }
  const ask = (i: number): Promise<Received> => {
    const user = { role: 'user', content: `agent ${i}: ${textOf(`asks${i}x`, 60)}` }
    return chat(stack, pool, { messages: [system, user], max_tokens: 24 })
  }
  const instances = `/admin/pools/${pool}/instances`
  await operator(stack, 'POST', `${instances}/${cold}/drain`)
  await becomes(stack, [pool, cold], ({ state }) => state === 'draining')
  await many(24, 12, ask) // so many at once that all of the others get some
  for (let i = 0; i < SIZE - 1; i++)
    expect(tenantsAt(stack.sims[`${pool}-${i}`]!)).not.toHaveLength(0)
  expect(tenantsAt(stack.sims[cold]!)).toHaveLength(0)

  await operator(stack, 'POST', `${instances}/${cold}/undrain`)
  await becomes(stack, [pool, cold], ({ state }) => state === 'ready')
  const places: unknown[] = []
  for (let i = 0; i < 16; i++) places.push((await ask(100 + i)).headers['x-penstock-instance'])
  expect(places.filter((place) => place === cold).length).toBeGreaterThanOrEqual(2)
})

it('a reset of the object breaks no conversation', async () => {
  const talk = new Talk('reset', 'reset')
  await talk.say('first')
  expect(expectedHits(await talk.say('second'))).toBeGreaterThan(256)
  await stack.crashPool('reset')
  await talk.say('third') // from wherever: the index of the last minute is lost
  const fourth = await talk.say('fourth')
  expect(expectedHits(fourth)).toBeGreaterThan(256)
  const fifth = await talk.say('fifth')
  expect(fifth.headers['x-penstock-instance']).toBe(fourth.headers['x-penstock-instance'])
})

it('what one tenant has in a cache draws nobody else there', async () => {
  await stack.admin.createTenant('other')
  const other = { url: stack.url, apiKey: await stack.admin.createKey('other', 'e2e') }
  const text = textOf('same', 600)
  await chat(stack, 'private', { text })
  const own = await chat(stack, 'private', { text })
  expect(expectedHits(own)).toBeGreaterThan(256)
  expect(expectedHits(await chat(other, 'private', { text }))).toBe(0)
  const salts = recordsOf('private').map(({ body }) => (body as { cache_salt: string }).cache_salt)
  expect(new Set(salts).size).toBe(2)
  expect(recordsOf('private').every(({ path }) => path === CHAT)).toBe(true)
})
