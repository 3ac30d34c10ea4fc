import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it, vi } from 'vitest'
import {
  admit,
  admitted,
  bill,
  claim,
  keyOf,
  plan,
  profile,
  tenantWith,
  terms,
  usage,
} from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

const limited = (named: Parameters<typeof plan>[0], version = 1) =>
  terms({ version, hash: `terms ${version}`, plans: { pro: plan(named) } })

describe('an admission', () => {
  it('tells terms that the object does not have, once', async () => {
    const key = await tenantWith('wanted')
    const { version, hash } = terms()
    const ask = (named = {}) =>
      tenant('wanted').admit({
        contract: 1,
        keyId: key.id,
        keyHash: key.hash,
        terms: { version, hash },
        claim: null,
        ...named,
      })
    expect(await ask()).toEqual({ kind: 'terms-wanted' })
    expect(await ask({ newTerms: terms() })).toMatchObject({ kind: 'admitted' })
    const answer = await ask()
    expect(answer).toMatchObject({
      kind: 'admitted',
      standing: { plan: 'pro', class: 'standard', models: ['*'] },
    })
    expect(answer, 'nothing was claimed').not.toHaveProperty('reservation')
  })

  it('from a Worker of the release before asks about the key alone', async () => {
    const key = await tenantWith('earlier')
    const ask = (keyHash: string) =>
      tenant('earlier').admit({ contract: 1, keyId: key.id, keyHash })
    expect(await ask(key.hash)).toEqual({ kind: 'admitted' })
    expect(await ask('0'.repeat(64))).toMatchObject({ kind: 'refused', code: 'invalid_api_key' })
  })

  it('lets in as many at once as the plan says, and another when one has ended', async () => {
    const key = await tenantWith('concurrency')
    const two = limited({ concurrency: 2 })
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => admit('concurrency', key, { claim: claim() }, two)),
    )
    const inside = answers.filter(({ kind }) => kind === 'admitted')
    expect(inside).toHaveLength(2)
    expect(answers.find(({ kind }) => kind === 'refused')).toMatchObject({
      code: 'rate_limit_exceeded',
    })
    const [first] = inside
    if (first?.kind !== 'admitted') throw new Error('refused')
    await first.reservation?.settle(bill())
    expect((await tenant('concurrency').show())?.running).toBe(1)
    await admitted('concurrency', key, {}, two)
  })

  it('writes nothing while it is made', async () => {
    const key = await tenantWith('dry', { plan: null })
    await admit('dry', key)
    await runInDurableObject(tenantStub('dry'), async (object, { storage }) => {
      const writes = [vi.spyOn(storage.sql, 'exec'), vi.spyOn(storage.kv, 'put')]
      await object.admit({
        contract: 1,
        keyId: key.id,
        keyHash: key.hash,
        terms: { version: 1, hash: terms().hash },
        address: '',
        claim: claim(),
      })
      for (const write of writes) expect(write).not.toHaveBeenCalled()
    })
  })

  it('of a tenant that nobody created is refused, and stores nothing', async () => {
    const nobody = { id: 'k', hash: '0'.repeat(64) }
    expect(await admit('nobody-here', nobody)).toMatchObject({ code: 'invalid_api_key' })
    expect(await tenant('nobody-here').show()).toBeNull()
    expect(await tenant('nobody-here').update({ plan: 'pro' })).toBeNull()
    expect(await tenant('nobody-here').remove()).toBe(false)
    expect(await tenant('nobody-here').record()).toBeNull()
    expect(await usage('nobody-here')).toBeNull()
    const running = { contract: 1, keyId: 'k', at: 1, claim: claim() }
    expect(await tenant('nobody-here').resume(running)).toEqual({ kind: 'gone' })
    await tenant('nobody-here').settle(running, bill())
    expect(await tenant('nobody-here').rotateKey('k', { graceMs: 1 })).toEqual({
      kind: 'no-tenant',
    })
    await runInDurableObject(tenantStub('nobody-here'), async (_tenant, { storage }) => {
      expect([...storage.kv.list()]).toEqual([])
      const tables = "SELECT name FROM sqlite_master WHERE name IN ('keys', 'usage', 'settled')"
      expect(storage.sql.exec(tables).toArray()).toEqual([])
      expect(await storage.getAlarm()).toBeNull()
    })
  })
})

describe('a reservation', () => {
  it('that is dropped is over, and its prompt is booked as an estimate (L32)', async () => {
    const key = await tenantWith('dropped')
    const { drop } = await admitted('dropped', key, { promptTokens: 7, outputTokens: 90 })
    expect((await tenant('dropped').show())?.running).toBe(1)
    drop()
    await vi.waitFor(async () => expect((await tenant('dropped').show())?.running).toBe(0))
    expect(await usage('dropped')).toMatchObject([
      { requests: 1, errors: 1, promptTokens: 0, completionTokens: 0, estimatedTokens: 7 },
    ])
  })

  it('is dropped with its request even while the request waits for its word', async () => {
    const key = await tenantWith('waiting')
    const { reservation, drop } = await admitted('waiting', key)
    const watch = await reservation.watch?.()
    const over = watch?.wait()
    drop()
    await vi.waitFor(async () => expect((await tenant('waiting').show())?.running).toBe(0))
    await over // there is nothing left to wait for
  })

  it('counts by its first word alone: a drop after the bill books nothing', async () => {
    const key = await tenantWith('first-word')
    const { reservation, drop } = await admitted('first-word', key)
    await reservation.settle(bill())
    await reservation.settle(bill({ ending: 'truncated' }))
    drop()
    expect((await tenant('first-word').show())?.running).toBe(0)
    expect(await usage('first-word')).toMatchObject([
      { requests: 1, errors: 0, promptTokens: 10, completionTokens: 5, estimatedTokens: 0 },
    ])
  })
})

describe('a key that is revoked', () => {
  it('is refused at once, and what runs goes on unless it is to end', async () => {
    const key = await tenantWith('revoked')
    const other = await keyOf('revoked')
    const running = await admitted('revoked', key)
    let ended = false
    const waiting = running.reservation.wait().then(() => (ended = true))
    await tenant('revoked').revokeKey(key.id)
    expect(await admit('revoked', key)).toMatchObject({ code: 'invalid_api_key' })
    expect(ended).toBe(false)

    const bystander = await admitted('revoked', other)
    let alsoEnded = false
    void bystander.reservation.wait().then(() => (alsoEnded = true))
    await tenant('revoked').revokeKey(key.id, { endRunning: true })
    await waiting
    expect(ended).toBe(true)
    expect(alsoEnded, 'the other key is none of it').toBe(false)
    await bystander.reservation.settle(bill())
  })
})

describe('a tenant that is suspended', () => {
  it('is refused at once, what runs ends if that was said, and it comes back', async () => {
    const key = await tenantWith('suspended')
    const { reservation } = await admitted('suspended', key)
    const watch = await reservation.watch?.()
    const waiting = watch?.wait()
    const suspended = { at: 1, reason: 'unpaid' }
    const entry = await tenant('suspended').update({ suspended }, { endRunning: true })
    expect(entry).toMatchObject({ plan: 'pro', suspended })
    await waiting
    expect(await admit('suspended', key)).toMatchObject({ code: 'tenant_suspended' })
    await tenant('suspended').update({ suspended: null })
    expect(await admit('suspended', key)).toMatchObject({ kind: 'admitted' })
  })

  it('that is removed ends what runs, and its keys open nothing', async () => {
    const key = await tenantWith('removed')
    const { reservation } = await admitted('removed', key)
    const watch = await reservation.watch?.()
    const waiting = watch?.wait()
    expect(await tenant('removed').remove()).toBe(true)
    await waiting
    await reservation.settle(bill())
    expect(await admit('removed', key)).toMatchObject({ code: 'invalid_api_key' })
    await runInDurableObject(tenantStub('removed'), (_tenant, { storage }) => {
      expect([...storage.kv.list()]).toEqual([])
      expect(
        storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'usage'").toArray(),
      ).toEqual([])
    })
    expect(await tenant('removed').create('removed', profile())).not.toBeNull()
    expect(await usage('removed')).toEqual([])
  })
})

describe('a key that is rotated', () => {
  it('has a successor with its settings, and ends after its grace', async () => {
    const key = await tenantWith('rotated')
    const named = await keyOf('rotated', { name: 'ci' })
    const rotated = await tenant('rotated').rotateKey(named.id, { graceMs: 3_600_000 })
    if (rotated.kind !== 'created') throw new Error(rotated.kind)
    expect(rotated.entry).toMatchObject({ name: 'ci', expires: null, revoked: null })
    expect(await admit('rotated', named), 'within its grace').toMatchObject({ kind: 'admitted' })
    const entries = (await tenant('rotated').keys()) ?? []
    expect(entries.find(({ id }) => id === named.id)?.expires).toBeGreaterThan(Date.now())

    await tenant('rotated').rotateKey(key.id, { graceMs: 0 })
    expect(await admit('rotated', key)).toMatchObject({ code: 'invalid_api_key' })
    expect(await tenant('rotated').rotateKey(key.id, { graceMs: 9 })).toEqual({ kind: 'no-key' })
    expect(JSON.stringify(entries)).not.toContain(named.hash)
  })

  it('has one valid successor, and the next one no less of a life', async () => {
    await tenantWith('twice')
    const expires = Date.now() + 30 * 86_400_000
    const old = await keyOf('twice', { expires })
    const rotate = async (id: string) => tenant('twice').rotateKey(id, { graceMs: 3_600_000 })
    const first = await rotate(old.id)
    if (first.kind !== 'created') throw new Error(first.kind)
    expect(first.old?.expires).toBeLessThan(expires)
    expect(await rotate(old.id)).toEqual({ kind: 'no-key', replacedBy: first.entry.id })
    const heir = await rotate(first.entry.id)
    if (heir.kind !== 'created') throw new Error(heir.kind)
    expect(heir.entry).toMatchObject({ expires, replaces: first.entry.id })
    expect(await rotate(old.id)).toEqual({ kind: 'no-key', replacedBy: heir.entry.id })

    await tenant('twice').revokeKey(first.entry.id)
    await tenant('twice').revokeKey(heir.entry.id)
    expect(await rotate(old.id), 'what was meant, not the end of its grace').toMatchObject({
      kind: 'created',
      entry: { expires, replaces: old.id },
    })
  })

  it('says nothing of another that has the same to replace, as the release before allowed', async () => {
    await tenantWith('siblings')
    const [old, one, other] = [
      await keyOf('siblings'),
      await keyOf('siblings'),
      await keyOf('siblings'),
    ]
    await runInDurableObject(tenantStub('siblings'), (_tenant, { storage: { sql } }) => {
      sql.exec('UPDATE keys SET replaces = ? WHERE id IN (?, ?)', old.id, one.id, other.id)
    })
    await abortAllDurableObjects()
    const rotate = async (id: string) => tenant('siblings').rotateKey(id, { graceMs: 3_600_000 })
    const heir = await rotate(other.id)
    if (heir.kind !== 'created') throw new Error(heir.kind)
    expect(await rotate(other.id)).toEqual({ kind: 'no-key', replacedBy: heir.entry.id })
    expect(await rotate(one.id)).toMatchObject({ kind: 'created' })
    expect(await rotate(old.id)).toMatchObject({ kind: 'no-key' })
  })

  it('has one successor, however many ask for it at once', async () => {
    await tenantWith('at-once')
    const { id } = await keyOf('at-once')
    const rotated = await Promise.all(
      [1, 2, 3].map(() => tenant('at-once').rotateKey(id, { graceMs: 9_000 })),
    )
    expect(rotated.map(({ kind }) => kind).toSorted()).toEqual(['created', 'no-key', 'no-key'])
  })

  it('never goes on for longer than it was to', async () => {
    await tenantWith('short')
    const expires = Date.now() + 60_000
    const { id } = await keyOf('short', { expires })
    expect(await tenant('short').rotateKey(id, { graceMs: 86_400_000 })).toMatchObject({
      entry: { expires },
      old: { id, expires },
    })
  })
})

describe('a plan that was applied a moment ago', () => {
  const gold = plan({ name: 'gold', rpm: 7 })
  const latest = terms({ version: 2, hash: 'with gold', plans: { gold } })

  it('holds at once for a tenant moved to it, whatever the isolate of its next request knows', async () => {
    const key = await tenantWith('moved')
    expect(await admit('moved', key)).toMatchObject({ kind: 'admitted' })
    await tenant('moved').change({ plan: 'gold', now: false }, { terms: latest })
    expect(await admit('moved', key)).toMatchObject({
      kind: 'admitted',
      standing: { plan: 'gold', models: ['*'] },
      allowances: { requests: { limit: 7 } },
    })
  })

  it('holds for a tenant created with it, over a reset', async () => {
    await tenant('born').create('born', profile({ plan: 'gold' }), { terms: latest })
    const key = await keyOf('born')
    await abortAllDurableObjects()
    expect(await tenant('born').show()).toMatchObject({ limits: { rpm: 7 }, planMissing: false })
    expect(await admit('born', key)).toMatchObject({ kind: 'admitted' })
  })
})
