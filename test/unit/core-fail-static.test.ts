import { describe, expect, it, vi } from 'vitest'
import type { StandbyTarget } from '../../durable-objects/fleet/snapshot.ts'
import type { Acquired, Granted } from '../../durable-objects/pool/contract.ts'
import { Outages, PATIENCE_MS } from '../../worker/forward/outages.ts'
import { respond } from '../../worker/forward/respond.ts'
import { Refusal } from '../../worker/refusal.ts'
import { stream } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { settled, target } from './core-builders.ts'
import { worldOf, type World } from './core-world.ts'

const standby = (instance: string, slots = 8): StandbyTarget => ({
  ...target({ instance, base: `http://${instance}` }),
  slots,
  weight: 1,
  lastResort: false,
})

/** A pool whose object throws, and whose instances the Worker knows. */
const OUT: World = {
  instances: { a: stream() },
  route: { instances: [standby('a')] },
  pool: () => Promise.reject(new Error('no network')),
}

describe('a pool whose object is out of reach', () => {
  it('is served by what the Worker knows, and the receipt says so', async () => {
    const { answer, receipt, released, bills, logs, over } = ask(OUT)
    expect((await answer).status).toBe(200)
    await (await answer).text()
    await over()
    expect(receipt).toMatchObject({ instance: 'a', reason: 'static', attempts: 1 })
    expect(released, 'of this slot no object knows').toEqual([])
    expect(bills, 'the tenant pays as ever').toMatchObject([{ ending: 'done' }])
    expect(logs).toEqual([expect.stringMatching(/pool qwen-14b is out of reach.*no network/)])
  })

  it('is one that says nothing in time, too', async () => {
    const { answer, patience, receipt } = ask({ ...OUT, pool: () => new Promise(() => undefined) })
    await vi.waitFor(() => expect(patience).toHaveLength(1))
    patience[0]!.act()
    expect((await answer).status).toBe(200)
    expect(receipt.reason).toBe('static')
  })

  it('is one that was just being reset, and says nothing in time when it is asked again', async () => {
    const reset = Object.assign(new Error('reset'), { durableObjectReset: true })
    let asked = 0
    const { answer, patience, receipt, demands } = ask({
      ...OUT,
      pool: () => (asked++ === 0 ? Promise.reject(reset) : new Promise(() => undefined)),
    })
    await vi.waitFor(() => expect(demands).toHaveLength(2))
    expect(patience, 'both within the same patience').toMatchObject([{ calledOff: false }])
    patience[0]!.act()
    expect((await answer).status).toBe(200)
    expect(receipt.reason).toBe('static')
  })

  it('tries another instance when one fails, and no failed one again', async () => {
    const { answer, receipt } = ask({
      ...OUT,
      instances: { a: () => Promise.reject(new Error('refused')), b: stream() },
      route: { instances: [standby('a'), standby('b')] },
    })
    expect((await answer).status).toBe(200)
    expect(receipt).toMatchObject({ instance: 'b', attempts: 2 })
    expect(receipt.reason).toBe('static; a: upstream-failed')
  })

  it('says that it is busy when its low cap is reached', async () => {
    const seen = worldOf(OUT)
    const full = seen.deps.standby.acquire([standby('a')], { avoid: [], remainingMs: 60_000 })
    expect(full.kind).toBe('granted')
    const refusal = await refusalOf(respond(seen.order, seen.deps))
    expect(refusal.code).toBe('pool_busy')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('1')
  })

  it('has its slot back when the tenant may not ask at all', async () => {
    const seen = worldOf({
      ...OUT,
      admission: Promise.reject(new Refusal('invalid_api_key', 'No.')),
    })
    expect((await refusalOf(respond(seen.order, seen.deps))).code).toBe('invalid_api_key')
    await seen.over()
    const again = seen.deps.standby.acquire([standby('a')], { avoid: [], remainingMs: 60_000 })
    expect(again.kind).toBe('granted')
  })

  it('is out of reach, where the snapshot does not know its instances', async () => {
    const { answer } = ask({ ...OUT, route: {} })
    expect((await refusalOf(answer)).code).toBe('router_unavailable')
  })

  it.each([
    [{ kind: 'busy', retryAfterS: 7 }, 'pool_busy'],
    [{ kind: 'none-ready', why: [] }, 'no_instance_ready'],
  ] as const)('is not one that says no: %o', async (no, code) => {
    const { answer, urls } = ask({ ...OUT, pool: () => no })
    expect((await refusalOf(answer)).code).toBe(code)
    expect(urls).toEqual([])
  })

  it('is not left with a grant that nobody waited for', async () => {
    const { promise, resolve } = Promise.withResolvers<Acquired>()
    const seen = worldOf({ ...OUT, pool: () => promise })
    const answer = respond(seen.order, seen.deps)
    await vi.waitFor(() => expect(seen.patience).toHaveLength(1))
    seen.patience[0]!.act()
    await answer
    const dispose = vi.fn<() => void>()
    const late: Granted & Disposable = {
      kind: 'granted',
      target: target(),
      reason: '',
      lease: { wait: () => new Promise(() => undefined), release: () => undefined },
      [Symbol.dispose]: dispose,
    }
    resolve(late)
    await settled()
    expect(dispose).toHaveBeenCalledTimes(1)
    const { outages } = seen.deps
    expect(outages.patienceMs('qwen-14b'), 'so late an answer is no answer').toBe(0)
  })

  it('that answers in time leaves no timer behind', async () => {
    const { answer, patience } = ask({ instances: { a: stream() } })
    await answer
    expect(patience).toMatchObject([{ calledOff: true }])
  })

  it('is not asked again for every request, and by one from time to time', async () => {
    let now = 1_000_000
    let asked = 0
    const outages = new Outages(() => now)
    const one = async (world: World = {}) => {
      const seen = worldOf({ ...OUT, ...world })
      await (await respond(seen.order, { ...seen.deps, outages })).text()
      asked += seen.demands.length
      return seen.receipt.reason
    }
    await one()
    expect(asked).toBe(1)
    for (let i = 0; i < 3; i++) expect(await one()).toBe('static')
    expect(asked).toBe(1)
    now += 1_000
    expect(await one()).toBe('static')
    expect(asked).toBe(2)
    expect(await one()).toBe('static')
    expect(asked).toBe(2)
    now += 1_000
    expect(await one({ pool: () => undefined })).toBe('least_inflight')
    expect(await one({ pool: () => undefined })).toBe('least_inflight')
    expect(asked).toBe(4)
  })
})

describe('Outages', () => {
  const at = (now: number) => {
    const clock = { now }
    return { clock, outages: new Outages(() => clock.now) }
  }

  it('sends one request to try an object again, which is less patient, while others go on', () => {
    const { clock, outages } = at(1_000)
    outages.failed('p')
    clock.now += 1_000
    const tried = outages.patienceMs('p')
    expect(tried).toBeGreaterThan(0)
    expect(tried).toBeLessThan(PATIENCE_MS)
    expect(outages.patienceMs('p')).toBe(0)
  })

  it('sends another one when nothing was heard of the one that tried', () => {
    const { clock, outages } = at(1_000)
    outages.failed('p')
    clock.now += 1_000
    outages.patienceMs('p')
    clock.now += 2_000
    expect(outages.patienceMs('p')).toBeGreaterThan(0)
  })

  it('knows one object from another', () => {
    const { outages } = at(1_000)
    outages.failed('p')
    expect(outages.patienceMs('p@apac')).toBe(PATIENCE_MS)
  })
})
