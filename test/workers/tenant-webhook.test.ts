import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { post, retryInMs } from '../../durable-objects/webhooks/post.ts'
import { type Key, admitted, bill, keyLimits, keyOf, tenantWith, terms, usage } from './tenancy.ts'
import { tenant, tenantStub, upstream } from './world.ts'

const URL_OF_HOOK = 'https://hooks.test/secret-path'
const HOOKED = terms({ hash: 'hooked', webhooks: [{ urlSecret: 'ALERT_URL', events: ['budget'] }] })

/** What the receiver has got, and what it answers. */
const received: { posts: Record<string, unknown>[]; status: number } = { posts: [], status: 200 }

beforeEach(() => {
  Object.assign(env, { ALERT_URL: URL_OF_HOOK })
  received.posts = []
  received.status = 200
  upstream.answer = async ({ host, request }) => {
    if (host !== 'hooks.test') return new Response(null, { status: 404 })
    received.posts.push(await request.json<Record<string, unknown>>())
    return new Response(null, { status: received.status })
  }
})

/** A request that costs so much, in the fleet's money. */
async function spend(id: string, key: Key, cost: number): Promise<void> {
  const { reservation } = await admitted(id, key, {}, HOOKED)
  await reservation.settle(bill({ promptTokens: 0, completionTokens: cost * 100_000 }))
}

/** Runs what the alarm has to do by now; a first attempt is due at once and may have been made by itself. */
const ring = (id: string) => runDurableObjectAlarm(tenantStub(id))

/** The alarm, as if all its waits were over. */
const ringLater = (id: string) =>
  runInDurableObject(tenantStub(id), async (object, { storage }) => {
    storage.sql.exec('UPDATE notices SET due = 0 WHERE due IS NOT NULL')
    await object.alarm()
  })

const attempts = (id: string) =>
  runInDurableObject(tenantStub(id), (_tenant, { storage }) =>
    storage.sql.exec('SELECT percent, attempts, due FROM notices ORDER BY percent').toArray(),
  )

describe('a budget', () => {
  it('tells each of its thresholds once a month', async () => {
    const key = await tenantWith('budget', { budget: { monthly: 10, stop: false } })
    await spend('budget', key, 7)
    await ring('budget')
    expect(received.posts).toEqual([])

    await spend('budget', key, 2)
    await vi.waitFor(() => expect(received.posts).toHaveLength(1))
    expect(received.posts[0]).toEqual({
      event: 'budget',
      tenant: 'budget',
      key: null,
      percent: 80,
      spent: expect.closeTo(9, 9),
      budget: 10,
      currency: 'EUR',
      month: expect.stringMatching(/^\d{4}-\d\d$/),
      at: expect.any(Number),
    })
    await spend('budget', key, 2)
    await vi.waitFor(() => expect(received.posts).toHaveLength(2))
    expect(received.posts[1]).toMatchObject({ percent: 100, spent: expect.closeTo(11, 9) })
    await spend('budget', key, 2)
    await ringLater('budget')
    expect(received.posts).toHaveLength(2)
  })

  it('that is raised is another one: each of its shares is told, once', async () => {
    const key = await tenantWith('raised', { budget: { monthly: 10, stop: false } })
    await spend('raised', key, 9)
    await vi.waitFor(() => expect(received.posts).toHaveLength(1))
    await tenant('raised').update({ budget: { monthly: 20, stop: false } })
    await ringLater('raised')
    expect(received.posts, 'not yet').toHaveLength(1)
    await spend('raised', key, 8)
    await vi.waitFor(() => expect(received.posts).toHaveLength(2))
    expect(received.posts[1]).toMatchObject({ percent: 80, budget: 20 })
    await vi.waitFor(async () =>
      expect(await attempts('raised')).toEqual([
        { percent: 80, attempts: 1, due: null },
        { percent: 80, attempts: 1, due: null },
      ]),
    )
    await tenant('raised').update({ budget: { monthly: 20, stop: true } })
    await ringLater('raised')
    expect(received.posts, 'the same amount').toHaveLength(2)
  })

  it('that is lowered, or first set, below what is spent is told at once', async () => {
    const key = await tenantWith('lowered')
    await spend('lowered', key, 9)
    await tenant('lowered').update({ budget: { monthly: 12, stop: true } })
    await ringLater('lowered')
    expect(received.posts, 'three quarters of it').toEqual([])
    await tenant('lowered').update({ budget: { monthly: 10, stop: true } })
    await vi.waitFor(() => expect(received.posts).toHaveLength(1))
    await tenant('lowered').update({ budget: { monthly: 11, stop: true }, overrides: { rpm: 9 } })
    await vi.waitFor(() => expect(received.posts).toHaveLength(2))
    await tenant('lowered').update({ budget: { monthly: 9, stop: true } })
    await vi.waitFor(() => expect(received.posts).toHaveLength(4))
    const told = received.posts.map(({ percent, budget }) => [percent, budget].join(' % of '))
    expect(new Set(told)).toEqual(new Set(['80 % of 10', '80 % of 11', '80 % of 9', '100 % of 9']))
    for (const { spent } of received.posts) expect(spent).toBeCloseTo(9, 9)
  })

  it('that an earlier release has told, whose table knows no amounts, is not told again', async () => {
    const key = await tenantWith('before', { budget: { monthly: 10, stop: false } })
    await spend('before', key, 9)
    await vi.waitFor(async () => expect(await attempts('before')).toMatchObject([{ attempts: 1 }]))
    await runInDurableObject(tenantStub('before'), (_tenant, { storage: { sql } }) => {
      sql.exec(`
        ALTER TABLE notices RENAME TO newer;
        CREATE TABLE notices (
          month TEXT NOT NULL, key TEXT NOT NULL, percent INTEGER NOT NULL, url_secret TEXT NOT NULL,
          body TEXT NOT NULL, attempts INTEGER NOT NULL, due INTEGER,
          PRIMARY KEY (month, key, percent, url_secret)) WITHOUT ROWID;
        INSERT INTO notices
          SELECT month, key, percent, url_secret, body, attempts, due FROM newer;
        DROP TABLE newer;
      `)
    })
    await abortAllDurableObjects()
    await tenant('before').update({ budget: { monthly: 10, stop: true } })
    await ringLater('before')
    expect(received.posts, 'the same amount').toHaveLength(1)
    await tenant('before').update({ budget: { monthly: 9, stop: true } })
    await vi.waitFor(() => expect(received.posts).toHaveLength(3))
  })

  it('of a key is told with the key, beside that of its tenant', async () => {
    await tenantWith('key-budget', { budget: { monthly: 100, stop: false } })
    const limits = keyLimits({ budget: { monthly: 1, stop: false } })
    const key = await keyOf('key-budget', { limits })
    await spend('key-budget', key, 90)
    await vi.waitFor(() => expect(received.posts).toHaveLength(3))
    const told = received.posts.map((notice) => [notice['key'], notice['percent']])
    expect(told).toEqual(
      expect.arrayContaining([
        [null, 80],
        [key.id, 80],
        [key.id, 100],
      ]),
    )
  })

  it('is told again with doubled waits while nobody takes it, six times at most', async () => {
    const key = await tenantWith('retried', { budget: { monthly: 10, stop: false } })
    received.status = 500
    await spend('retried', key, 9)
    // A settlement never waits for a receiver: it is booked, whatever becomes of the notice.
    await vi.waitFor(() => expect(received.posts).toHaveLength(1))
    await vi.waitFor(async () => expect(await attempts('retried')).toMatchObject([{ attempts: 1 }]))
    expect(await usage('retried')).toMatchObject([{ requests: 1 }])
    for (let more = 0; more < 10; more++) await ringLater('retried')
    expect(received.posts).toHaveLength(7)
    expect(await attempts('retried')).toEqual([{ percent: 80, attempts: 7, due: null }])
    expect([1, 2, 3, 6, 7].map(retryInMs)).toEqual([30_000, 60_000, 120_000, 960_000, null])
  })

  it('is no notice where nobody wants one', async () => {
    const key = await tenantWith('unheard', { budget: { monthly: 10, stop: false } })
    const { reservation } = await admitted('unheard', key)
    await reservation.settle(bill({ completionTokens: 1_000_000 }))
    expect(await attempts('unheard')).toEqual([])
  })
})

describe('a post', () => {
  const unreachable = () => Promise.reject(new Error(`cannot reach ${URL_OF_HOOK}`))

  it.each([
    { why: 'its secret is not set', url: undefined, said: 'secret HOOK is not set' },
    { why: 'its secret is no URL', url: 'operator', said: 'secret HOOK is no URL' },
    { why: 'nobody can be reached', url: URL_OF_HOOK, said: 'out of reach' },
  ])('says why it was not taken when $why, and never the URL', async ({ url, said }) => {
    const fault = await post('HOOK', '{}', { fetch: unreachable, secretOf: () => url })
    expect(fault).toBe(said)
  })

  it.each([200, 204, 302, 404, 500])('with status %i is taken or not by that', async (status) => {
    const fetch = async () => new Response(null, { status })
    const fault = await post('HOOK', '{}', { fetch, secretOf: () => URL_OF_HOOK })
    expect(fault).toBe(status < 300 ? null : `status ${status}`)
  })
})
