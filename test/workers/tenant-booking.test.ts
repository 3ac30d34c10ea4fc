/** When what was settled is written down, and that it is once. */
import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it, vi } from 'vitest'
import { Bookkeeper } from '../../durable-objects/tenant/bookkeeper.ts'
import type { Claim, Running } from '../../durable-objects/tenant/contract.ts'
import { TenantStore } from '../../durable-objects/tenant/tenant-store.ts'
import { admitted, bill, claim, profile, tenantWith, terms, usage } from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

const KEY = { id: 'k', name: null, created: 1, revoked: null, hash: 'the hash of a key' }
/** A second before midnight. */
const NOW = Date.parse('2026-11-23T23:59:59Z')

/** Books of their own, with a clock and timers that the test turns, in an object that is no tenant. */
const withBooks = (name: string, run: (kept: ReturnType<typeof booksIn>) => Promise<void> | void) =>
  runInDurableObject(tenantStub(name), (_tenant, { storage }) => run(booksIn(storage)))

function booksIn(storage: DurableObjectStorage) {
  const clock = { now: NOW }
  const store = new TenantStore(storage, () => clock.now)
  store.begin({ id: 't', created: 1, profile: profile({ plan: null }), keys: [KEY] })
  store.complete()
  const state = store.open()
  if (!state) throw new Error('nothing was stored')
  const timers: { ms: number; call: () => void }[] = []
  const after = (ms: number, call: () => void) => void timers.push({ ms, call })
  const books = new Bookkeeper(state, { store, now: () => clock.now, after, onNotice: () => {} })
  const admit = (named: Partial<Claim> = {}) => {
    const { version, hash } = terms()
    const verdict = books.admit({
      contract: 1,
      keyId: KEY.id,
      keyHash: KEY.hash,
      terms: { version, hash },
      newTerms: terms(),
      claim: claim(named),
    })
    if (verdict.kind !== 'admitted' || !verdict.held) throw new Error(verdict.kind)
    const { held } = verdict
    const running: Running = { contract: 1, keyId: KEY.id, at: held.at, claim: held.claim }
    return { held, running }
  }
  /** Calls what is due after so many milliseconds or sooner. */
  const ring = (ms: number) => {
    const due = timers.filter((timer) => timer.ms <= ms)
    for (const timer of due) timers.splice(timers.indexOf(timer), 1)
    for (const { call } of due) call()
  }
  const requests = () =>
    store.ledger
      .query({ from: 0, to: NOW + 1e9, by: 'month' })
      .reduce((sum, row) => sum + row.requests, 0)
  return { storage, store, clock, books, admit, ring, requests }
}

describe('settlements', () => {
  it('of one moment are one write, and each waits for it', async () => {
    await withBooks('together', async ({ storage, books, admit, ring, requests }) => {
      const held = Array.from({ length: 20 }, () => admit().held)
      const writes = vi.spyOn(storage, 'transactionSync')
      let written = 0
      const settled = held.map(async (one) => {
        await books.settle(one, bill())
        written++
      })
      expect(books.account.running, 'it counts at once').toBe(0)
      await Promise.resolve()
      expect([requests(), written, writes.mock.calls.length]).toEqual([0, 0, 0])
      ring(100)
      await Promise.all(settled)
      expect([requests(), writes.mock.calls.length]).toEqual([20, 1])
      const row = { requests: 20, promptTokens: 200, completionTokens: 100 }
      expect(books.account.entry()).toMatchObject({ tokensToday: 300 })
      const { usage: lines } = booksPage(storage)
      expect(lines).toMatchObject([row])
    })
  })

  it('are written before anybody reads', async () => {
    const key = await tenantWith('read')
    const { reservation } = await admitted('read', key)
    const settled = reservation.settle(bill())
    const reads = [usage('read'), tenant('read').usagePage({ after: null, limit: 9 })]
    const [rows, page] = await Promise.all(reads)
    expect(rows).toMatchObject([{ requests: 1 }])
    expect(page).toMatchObject({ usage: [{ requests: 1 }] })
    await settled
  })

  it('that could not be written are told so, and written the next time, once', async () => {
    await withBooks('failed', async ({ storage, books, admit, ring, requests }) => {
      const { held, running } = admit()
      const fault = vi.spyOn(storage, 'transactionSync').mockImplementationOnce(() => {
        throw new Error('the disk is full')
      })
      const settled = books.settle(held, bill())
      expect(() => ring(100)).toThrow('the disk is full')
      await expect(settled).rejects.toThrow('the disk is full')
      fault.mockRestore()
      const again = books.settleLate(running, bill())
      ring(100)
      await again
      expect([requests(), books.account.entry().tokensToday]).toEqual([1, 15])
    })
  })

  it('that a reset has swallowed are not answered, and booked when they are told anew', async () => {
    const key = await tenantWith('swallowed')
    const { reservation, running } = await admitted('swallowed', key)
    await usage('swallowed')
    const settled = Promise.resolve(reservation.settle(bill())).then(
      () => 'written',
      () => 'swallowed',
    )
    await tenant('swallowed').keys() // it has arrived
    await abortAllDurableObjects()
    expect(await settled).toBe('swallowed')
    expect(await usage('swallowed')).toEqual([])
    await tenant('swallowed').settle(running, bill())
    await abortAllDurableObjects()
    expect(await usage('swallowed')).toMatchObject([{ requests: 1, promptTokens: 10 }])
  })

  it('that wait are among the sums of a new day and month', async () => {
    await withBooks('midnight', async ({ clock, books, admit }) => {
      const { held } = admit()
      void books.settle(held, bill())
      clock.now += 2_000
      admit()
      expect(books.account.entry()).toMatchObject({ tokensToday: 0, tokensThisMonth: 15 })
    })
    await withBooks('new-month', async ({ clock, books, admit }) => {
      const { held } = admit()
      void books.settle(held, bill())
      // Another time zone: the sums are asked for anew.
      books.account.setTerms(terms({ version: 2, hash: 'zone', timeZone: 'Pacific/Auckland' }))
      clock.now += 1
      admit()
      expect(books.account.entry()).toMatchObject({ tokensThisMonth: 15 })
    })
  })

  it('of a tenant that is removed meanwhile wait for nothing', async () => {
    const key = await tenantWith('removed')
    const { reservation } = await admitted('removed', key)
    const settled = reservation.settle(bill())
    await Promise.all([tenant('removed').remove(), settled])
    expect(await tenant('removed').create('removed')).not.toBeNull()
    expect(await usage('removed')).toEqual([])
  })
})

describe('a request that was swept', () => {
  it('is booked once, though its settlement comes late and before it is written', async () => {
    await withBooks('swept', async ({ clock, books, admit, ring, requests }) => {
      const { running } = admit({ remainingMs: 1_000 })
      clock.now += 1_000 + 60_001
      admit()
      const late = books.settleLate(running, bill())
      expect(books.resume(running), 'it is over').toBeNull()
      ring(100)
      await late
      expect(requests()).toBe(1)
    })
  })
})

describe('what is noted as settled', () => {
  it('is booked no more, whoever says so', async () => {
    await withBooks('noted', async ({ store, books, admit, ring, requests }) => {
      const { held, running } = admit()
      const settled = books.settle(held, bill())
      store.settled.note({ request: running.claim.request, admittedAt: running.at }, NOW)
      ring(100)
      await settled
      expect(requests()).toBe(0)
    })
  })

  it('is known for two hours: a request by its id and its admission', async () => {
    const HOUR = 3_600_000
    await withBooks('remembered', ({ store: { settled }, storage: { sql } }) => {
      const first = { request: 'req_1', admittedAt: 5 }
      expect(settled.note(first, HOUR)).toBe(true)
      expect(settled.has(first)).toBe(true)
      expect(settled.has({ request: 'req_1', admittedAt: 6 }), 'another admission').toBe(false)
      expect(settled.note(first, HOUR + 1), 'noted before').toBe(false)
      settled.note({ request: 'req_2', admittedAt: 5 }, 3 * HOUR)
      expect(settled.has(first)).toBe(true)
      settled.note({ request: 'req_3', admittedAt: 5 }, 3 * HOUR + 60_001)
      expect(settled.has(first)).toBe(false)
      expect(sql.exec('SELECT request FROM settled').toArray()).toHaveLength(2)
    })
  })

  it('costs one row to write and one to forget', async () => {
    await withBooks('rows', ({ storage: { sql } }) => {
      const insert = 'INSERT INTO settled (admitted, request, at) VALUES (1, ?, 1)'
      const row = sql.exec(insert, 'req')
      row.toArray()
      expect(row.rowsWritten).toBe(1)
      for (let i = 0; i < 50; i++)
        sql.exec('INSERT INTO settled (request, admitted, at) VALUES (?, 5, 5)', `req_${i}`)
      const gone = sql.exec('DELETE FROM settled WHERE admitted < 2 AND at < 2')
      gone.toArray()
      expect(gone.rowsWritten).toBe(1)
      expect(gone.rowsRead, 'those that stay are not looked at').toBeLessThan(10)
    })
  })

  it('by an earlier release stays so, whose table was made otherwise', async () => {
    const key = await tenantWith('earlier')
    const { reservation, running } = await admitted('earlier', key)
    await reservation.settle(bill())
    await runInDurableObject(tenantStub('earlier'), (_tenant, { storage: { sql } }) => {
      sql.exec(`
        ALTER TABLE settled RENAME TO newer;
        CREATE TABLE settled (
          request TEXT NOT NULL, admitted INTEGER NOT NULL, at INTEGER NOT NULL,
          PRIMARY KEY (request, admitted)) WITHOUT ROWID;
        CREATE INDEX settled_at ON settled (at);
        INSERT INTO settled SELECT request, admitted, at FROM newer;
        DROP TABLE newer;
      `)
    })
    await abortAllDurableObjects()
    await tenant('earlier').settle(running, bill())
    expect(await usage('earlier')).toMatchObject([{ requests: 1 }])
    // That release comes back for a while.
    await runInDurableObject(tenantStub('earlier'), (_tenant, { storage: { sql } }) => {
      sql.exec('CREATE INDEX IF NOT EXISTS settled_at ON settled (at)')
    })
    await abortAllDurableObjects()
    await tenant('earlier').show()
    await runInDurableObject(tenantStub('earlier'), (_tenant, { storage: { sql } }) => {
      const made = "SELECT name FROM sqlite_master WHERE name LIKE 'settled%'"
      expect(sql.exec(made).toArray()).toEqual([{ name: 'settled' }])
    })
  })
})

const booksPage = (storage: DurableObjectStorage) =>
  new TenantStore(storage, () => NOW).ledger.page({ after: null, limit: 9 })
