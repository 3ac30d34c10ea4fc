import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Acquired, Queued, Settlement } from '../../durable-objects/pool/contract.ts'
import { respond } from '../../worker/forward/respond.ts'
import { Refusal } from '../../worker/refusal.ts'
import { ANSWER, eventStream, replyJson, settled, sse, target } from './core-builders.ts'
import { worldOf, type Answers, type World } from './core-world.ts'

beforeAll(() => {
  // The one name of the Workers runtime that forwarding needs; in Node a transform without a function is the same.
  const runtime = globalThis as { IdentityTransformStream?: unknown }
  runtime.IdentityTransformStream ??= TransformStream
})

const WHOLE = sse(...ANSWER, '[DONE]')
const answers: Answers = () => eventStream(WHOLE)
const fails: Answers = () => replyJson({ error: { message: 'boom', code: 500 } }, { status: 500 })

const ask = (world: World) => {
  const seen = worldOf(world)
  return { ...seen, answer: respond(seen.order, seen.deps) }
}

const refusalOf = (answer: Promise<Response>): Promise<Refusal> =>
  answer.then(
    (response) => Promise.reject(new Error(`answered ${response.status}`)),
    (error: Refusal) => error,
  )

/** A ticket under the test's control: as in the pool object, one who leaves is told so. */
function ticket() {
  const { promise, resolve, reject } = Promise.withResolvers<Acquired>()
  promise.catch(() => undefined)
  const leave = vi.fn<() => void>(() => resolve({ kind: 'busy', retryAfterS: 1 }))
  const dispose = vi.fn<() => void>()
  const queued: Queued = {
    kind: 'queued',
    ahead: 3,
    ticket: Object.assign({ wait: () => promise, leave }, { [Symbol.dispose]: dispose }),
  }
  return { queued, leave, dispose, answer: resolve, reset: () => reject(new Error('was reset')) }
}

/** A slot of an instance, and what it is given back with. */
function slotOf(instance: string) {
  const released: Settlement[] = []
  const granted: Acquired = {
    kind: 'granted',
    target: target({ instance, base: `http://${instance}` }),
    reason: 'least_inflight',
    lease: {
      wait: () => new Promise<void>(() => {}),
      release: (settlement) => void released.push(settlement),
    },
  }
  return { granted, released }
}

/** What the pool says each time it is asked. */
const inTurn = (...said: readonly Acquired[]) => {
  const left = [...said]
  return () => left.shift()
}

describe('a request that waits in the queue', () => {
  it('says that it can wait, what it is, and for which arm', async () => {
    const { answer, demands } = ask({ instances: { a: answers } })
    await answer
    expect(demands[0]).toMatchObject({
      mayQueue: true,
      work: { tenant: 'acme' },
      arm: { model: 'qwen', arm: 'stable' },
    })
  })

  it('goes to the instance whose slot came free, and the ticket is dropped', async () => {
    const waits = ticket()
    const { answer, demands, urls, receipt } = ask({
      instances: { a: answers },
      pool: () => waits.queued,
    })
    await settled()
    expect(urls).toEqual([])
    expect(waits.dispose, 'dropping it would give the place up').not.toHaveBeenCalled()
    waits.answer(slotOf('a').granted)
    expect(await (await answer).text()).toBe(WHOLE)
    expect(demands, 'one call, however long it waits').toHaveLength(1)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
    expect(waits.leave).not.toHaveBeenCalled()
    expect(receipt).toMatchObject({ instance: 'a', attempts: 1 })
  })

  it.each([
    { said: { kind: 'busy', retryAfterS: 17 }, code: 'pool_busy', retryAfter: '17' },
    { said: { kind: 'none-ready', why: ['a down'] }, code: 'no_instance_ready', retryAfter: '5' },
  ] as const)('and waited in vain is refused as $code', async ({ said, code, retryAfter }) => {
    const waits = ticket()
    const { answer } = ask({ pool: () => waits.queued })
    waits.answer(said)
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe(code)
    expect(refusal.toResponse().headers.get('retry-after')).toBe(retryAfter)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
  })

  it('and waited in vain goes to a fallback, where there is one', async () => {
    const waits = ticket()
    const { answer } = ask({
      fallback: { internlm: { b: answers } },
      pool: (_, pool) => (pool === 'qwen-14b' ? waits.queued : undefined),
    })
    waits.answer({ kind: 'none-ready', why: [] })
    expect((await answer).status).toBe(200)
  })

  it('is resolved anew where the fleet changes meanwhile', async () => {
    const waits = ticket()
    const { answer, demands } = ask({
      instances: { a: answers },
      pool: ({ fleet }) => (fleet < 9 ? waits.queued : undefined),
    })
    waits.answer({ kind: 'stale', version: 9 })
    expect((await answer).status).toBe(200)
    expect(demands.map(({ fleet }) => fleet)).toEqual([7, 9])
  })

  it('after an instance has failed it waits for another one', async () => {
    const waits = ticket()
    const first = slotOf('a')
    const { answer, demands } = ask({
      instances: { a: fails, b: answers },
      pool: inTurn(first.granted, waits.queued),
    })
    await vi.waitFor(() => expect(demands).toHaveLength(2))
    expect(demands[1]).toMatchObject({ avoid: ['a'], mayQueue: true })
    waits.answer(slotOf('b').granted)
    expect((await answer).status).toBe(200)
    expect(first.released).toMatchObject([{ ending: 'upstream-failed' }])
  })

  it('after an instance has failed it, and in vain, is told of that failure', async () => {
    const waits = ticket()
    const { answer } = ask({
      instances: { a: fails },
      pool: inTurn(slotOf('a').granted, waits.queued),
    })
    waits.answer({ kind: 'busy', retryAfterS: 1 })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
  })
})

describe('a tenant who leaves the queue', () => {
  it('gives the place up at once, and no instance is called', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const { answer, urls } = ask({
      instances: { a: answers },
      pool: () => waits.queued,
      signal: tenant.signal,
    })
    await settled()
    expect(waits.leave).not.toHaveBeenCalled()
    tenant.abort()
    expect(waits.leave).toHaveBeenCalledTimes(1)
    await refusalOf(answer)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
    expect(urls).toEqual([])
  })

  it('before he was told that he waits gives it up as well', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const { answer } = ask({
      pool: () => (tenant.abort(), waits.queued),
      signal: tenant.signal,
    })
    await refusalOf(answer)
    expect(waits.leave).toHaveBeenCalledTimes(1)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
  })

  it('after his turn has come does not leave it any more', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const { answer } = ask({
      instances: { a: answers },
      pool: () => waits.queued,
      signal: tenant.signal,
    })
    waits.answer(slotOf('a').granted)
    await (await answer).text()
    tenant.abort()
    expect(waits.leave).not.toHaveBeenCalled()
  })

  it('as the slot comes gives it back unused, and pays nothing', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const slot = slotOf('a')
    const { answer, urls, bills, over } = ask({
      instances: { a: answers },
      pool: () => waits.queued,
      signal: tenant.signal,
    })
    await settled()
    waits.answer(slot.granted)
    tenant.abort()
    await refusalOf(answer)
    await over()
    expect(slot.released).toMatchObject([{ ending: 'refused' }])
    expect(urls).toEqual([])
    expect(bills).toMatchObject([{ ending: 'refused' }])
  })

  it('has dropped what was on its way to him all the same', async () => {
    const tenant = new AbortController()
    const { promise: turn, resolve } = Promise.withResolvers<Acquired>()
    const { answer, over } = ask({
      pool: () => ({
        kind: 'queued',
        ahead: 1,
        ticket: { wait: () => turn, leave: () => undefined },
      }),
      signal: tenant.signal,
    })
    await settled()
    tenant.abort()
    await refusalOf(answer)
    const dispose = vi.fn<() => void>()
    resolve({ ...slotOf('a').granted, [Symbol.dispose]: dispose } as Acquired)
    await over()
    expect(dispose, 'it would have held the slot').toHaveBeenCalledTimes(1)
  })

  it('is put in no other queue: no other model is asked, and he pays nothing', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const { answer, demands, urls, bills, over } = ask({
      fallback: { internlm: { b: answers } },
      pool: () => waits.queued,
      signal: tenant.signal,
    })
    await settled()
    tenant.abort()
    await refusalOf(answer)
    await over()
    expect(demands).toHaveLength(1)
    expect(urls).toEqual([])
    expect(bills).toMatchObject([{ ending: 'refused' }])
  })

  it('is not held up by an object that does not take his word', async () => {
    const tenant = new AbortController()
    const waits = ticket()
    const broken = () => Promise.reject(new Error('connection lost'))
    const { answer } = ask({
      pool: () => ({
        ...waits.queued,
        ticket: { wait: () => waits.queued.ticket.wait(), leave: broken },
      }),
      signal: tenant.signal,
    })
    await settled()
    tenant.abort()
    expect((await refusalOf(answer)).message).toBe('The client left.')
  })
})

describe('a queue that says nothing', () => {
  it('keeps a request until its own time is up, and no longer', async () => {
    const waits = ticket()
    const { answer, timers } = ask({ pool: () => waits.queued, timeouts: { totalMs: 5_000 } })
    await settled()
    expect(timers[0]!.calledOff).toBe(false)
    expect(timers[0]!.ms).toBeGreaterThan(4_000)
    expect(timers[0]!.ms).toBeLessThanOrEqual(5_000)
    timers[0]!.act()
    expect((await refusalOf(answer)).code).toBe('pool_busy')
    expect(waits.leave).toHaveBeenCalledTimes(1)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
  })

  it('is timed no more by one whose turn has come', async () => {
    const waits = ticket()
    const { answer, timers } = ask({ instances: { a: answers }, pool: () => waits.queued })
    await settled()
    waits.answer(slotOf('a').granted)
    await (await answer).text()
    expect(timers.slice(0, 2)).toMatchObject([{ calledOff: true }, { calledOff: true }])
  })
})

describe('a tenant who may not ask any more, while his request waits', () => {
  const suspended = new Refusal('tenant_suspended', 'Unpaid.')
  /** One that has waited for so long that it is worth a call to hear of it. */
  const waiting = async (world: World) => {
    const seen = ask(world)
    await settled()
    seen.timers[1]!.act()
    await settled()
    return seen
  }

  it('is told so at once: his place is free, no other model is asked, and he pays nothing', async () => {
    const waits = ticket()
    const { answer, withdraw, timers, demands, urls, bills, over } = await waiting({
      fallback: { internlm: { b: answers } },
      pool: () => waits.queued,
    })
    expect(timers[1]!.ms).toBeLessThan(timers[0]!.ms)
    withdraw(suspended)
    expect(await refusalOf(answer)).toBe(suspended)
    await over()
    expect(waits.leave).toHaveBeenCalledTimes(1)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
    expect(demands).toHaveLength(1)
    expect(urls).toEqual([])
    expect(bills).toMatchObject([{ ending: 'refused' }])
  })

  it('gives back the slot that comes as it is heard', async () => {
    const waits = ticket()
    const slot = slotOf('a')
    const { answer, withdraw, urls, over } = await waiting({ pool: () => waits.queued })
    waits.answer(slot.granted)
    withdraw(suspended)
    expect(await refusalOf(answer)).toBe(suspended)
    await over()
    expect(slot.released).toMatchObject([{ ending: 'refused' }])
    expect(urls).toEqual([])
  })

  it('has no place to give up once his turn has come', async () => {
    const waits = ticket()
    const { answer, withdraw } = await waiting({
      instances: { a: answers },
      pool: () => waits.queued,
    })
    waits.answer(slotOf('a').granted)
    await (await answer).text()
    withdraw(suspended)
    expect(waits.leave).not.toHaveBeenCalled()
  })

  it('is not listened for before he has been admitted, nor where he was not', async () => {
    const { promise: admission, resolve } = Promise.withResolvers<void>()
    const waits = ticket()
    const { revocations } = await waiting({ pool: () => waits.queued, admission })
    expect(revocations).toHaveLength(0)
    resolve()
    await settled()
    expect(revocations).toHaveLength(1)
  })
})

describe('a reset of the pool object while requests wait', () => {
  it('sends them to the end of the new queue, once', async () => {
    const [lost, waits] = [ticket(), ticket()]
    const { answer, demands } = ask({
      instances: { a: answers },
      pool: inTurn(lost.queued, waits.queued),
    })
    lost.reset()
    await vi.waitFor(() => expect(demands).toHaveLength(2))
    expect(demands[1], 'it is the same request').toMatchObject({ request: 'req_1', mayQueue: true })
    expect(demands[1]!.remainingMs).toBeLessThanOrEqual(demands[0]!.remainingMs)
    expect(lost.dispose).toHaveBeenCalledTimes(1)
    waits.answer(slotOf('a').granted)
    expect((await answer).status).toBe(200)
    expect(waits.dispose).toHaveBeenCalledTimes(1)
  })

  it('gives them a slot at once where the new object has one', async () => {
    const lost = ticket()
    const { answer, demands } = ask({
      instances: { a: answers },
      pool: inTurn(lost.queued, slotOf('a').granted),
    })
    lost.reset()
    expect((await answer).status).toBe(200)
    expect(demands).toHaveLength(2)
  })

  it('that happens again has them told to come back', async () => {
    const [first, second] = [ticket(), ticket()]
    const { answer, demands } = ask({ pool: inTurn(first.queued, second.queued) })
    first.reset()
    second.reset()
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('pool_busy')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('1')
    expect(demands).toHaveLength(2)
  })

  it('leaves a tenant in the new queue who can leave that one too', async () => {
    const tenant = new AbortController()
    const [lost, waits] = [ticket(), ticket()]
    const { answer, demands } = ask({
      pool: inTurn(lost.queued, waits.queued),
      signal: tenant.signal,
    })
    lost.reset()
    await vi.waitFor(() => expect(demands).toHaveLength(2))
    await settled()
    tenant.abort()
    await refusalOf(answer)
    expect(waits.leave).toHaveBeenCalledTimes(1)
    expect(lost.leave, 'that one is gone').not.toHaveBeenCalled()
  })
})

describe('a tenant who may not ask', () => {
  it('gives back the slot that the queue gave him meanwhile', async () => {
    const waits = ticket()
    const slot = slotOf('a')
    const { promise: admission, reject } = Promise.withResolvers<void>()
    const { answer, urls, over } = ask({
      instances: { a: answers },
      pool: () => waits.queued,
      admission,
    })
    waits.answer(slot.granted)
    await settled()
    reject(new Refusal('invalid_api_key', 'Bad key.'))
    expect((await refusalOf(answer)).code).toBe('invalid_api_key')
    await over()
    expect(slot.released).toMatchObject([{ ending: 'refused' }])
    expect(urls).toEqual([])
  })
})

it('does not let one wait who may not ask for a pool whose object is out of reach', async () => {
  const { promise: late, resolve } = Promise.withResolvers<Acquired>()
  const refused = new Refusal('invalid_api_key', 'Revoked.')
  const { answer, over } = ask({ pool: () => late, admission: Promise.reject(refused) })
  expect(await refusalOf(answer)).toBe(refused)
  const slot = slotOf('a')
  resolve(slot.granted)
  await over()
  expect(slot.released, 'it would have held the slot').toMatchObject([{ ending: 'refused' }])
})

it('does not let one wait who may not ask: his refusal comes at once, and his place is free', async () => {
  const leave = vi.fn<() => void>()
  const ticket = { wait: () => new Promise<never>(() => undefined), leave }
  const seen = worldOf({
    pool: () => ({ kind: 'queued', ahead: 0, ticket }),
    admission: Promise.reject(new Refusal('invalid_api_key', 'Revoked.')),
  })
  await expect(respond(seen.order, seen.deps)).rejects.toMatchObject({ code: 'invalid_api_key' })
  expect(leave).toHaveBeenCalledTimes(1)
})
