import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { AffinityIndex } from '../../durable-objects/scheduling/affinity.ts'
import {
  demand,
  fleet,
  FLEET,
  granted,
  inFlight,
  instance,
  pool,
  poolConfig,
  poolStub,
  settlement,
  upstream,
} from './world.ts'

beforeEach(() => {
  upstream.calls = []
  upstream.answer = () => undefined
  upstream.running = 0
})

const looksAt = (host: string) =>
  upstream.calls.filter((call) => call.startsWith(`${host} `)).length

describe('a lease', () => {
  it('gives its slot back by release, and disposing it afterwards changes nothing', async () => {
    await pool('release').configure(poolConfig())
    const grant = await granted('release')
    expect(await inFlight('release')).toEqual({ a: 1 })
    await grant.lease.release(settlement({ ending: 'done' }))
    grant[Symbol.dispose]()
    expect(await inFlight('release')).toEqual({ a: 0 })
    const { ended, granted: count } = await pool('release').status()
    expect(ended).toMatchObject({ done: 1, lost: 0 })
    expect(count).toBe(1)
  })

  it('gives its slot back when it is merely dropped', async () => {
    await pool('dispose').configure(poolConfig())
    const grant = await granted('dispose')
    grant[Symbol.dispose]()
    await vi.waitFor(async () => expect(await inFlight('dispose')).toEqual({ a: 0 }))
    expect((await pool('dispose').status()).ended).toMatchObject({ lost: 1 })
  })

  it('is given up to the slots and not beyond, however many ask at once', async () => {
    await pool('slots').configure(poolConfig({ instances: [instance('a'), instance('b')] }))
    await pool('slots').status()
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => pool('slots').acquire(demand({ request: `req_${i}` }))),
    )
    expect(answers.filter(({ kind }) => kind === 'granted')).toHaveLength(4)
    expect(answers.filter(({ kind }) => kind === 'busy')).toHaveLength(16)
    expect(await inFlight('slots')).toEqual({ a: 2, b: 2 })
  })

  it('leads to the instance, with the names of its secrets', async () => {
    const secrets = [{ header: 'x-penstock-node-key', secret: 'NODE_KEY_A' }]
    // The secret is not set here, so the instance cannot become ready: a second one is.
    await pool('target').configure(
      poolConfig({ instances: [instance('a'), instance('b', { secrets })] }),
    )
    const { target, reason } = await granted('target')
    expect(target).toEqual({ instance: 'a', base: 'http://a.test', site: null, secrets: [] })
    expect(reason).toBe('least_inflight')
    const { instances } = await pool('target').status()
    expect(instances[1]).toMatchObject({ reason: 'secret NODE_KEY_A is not set' })
  })
})

describe('the last resort of a pool', () => {
  const SERVICE = instance('service', { lastResort: true })

  it('is used when nobody else can take a request, and said to be it', async () => {
    const instances = [instance('a', { slots: 1 }), SERVICE]
    await pool('resort').configure(poolConfig({ instances }))
    const first = await granted('resort')
    expect([first.target.instance, first.reason]).toEqual(['a', 'least_inflight'])
    const full = await granted('resort', { request: 'req_2' })
    expect([full.target.instance, full.reason]).toEqual(['service', 'last_resort'])
    await first.lease.release(settlement())
    const failed = await granted('resort', { request: 'req_3', avoid: ['a'] })
    expect(failed.target.instance).toBe('service')
  })

  it('is asked for its model list alone, and not at every round', async () => {
    await pool('calm').configure(poolConfig({ instances: [instance('a'), SERVICE] }))
    await pool('calm').status()
    await runDurableObjectAlarm(poolStub('calm'))
    await vi.waitFor(() => expect(looksAt('a.test')).toBeGreaterThan(3))
    expect(upstream.calls.filter((call) => call.startsWith('service.test'))).toEqual([
      'service.test /v1/models',
    ])
  })
})

describe('the tokens of a pool', () => {
  it('are those of its settled requests, estimates apart', async () => {
    await pool('tokens').configure(poolConfig())
    const settle = async (named: Parameters<typeof settlement>[0]) => {
      const { lease } = await granted('tokens')
      await lease.release(settlement(named))
    }
    await settle({ promptTokens: 7, completionTokens: 3, cachedTokens: 4, counted: 'reported' })
    await settle({ promptTokens: 2, completionTokens: 1, counted: 'estimate' })
    await settle({})
    expect((await pool('tokens').status()).tokens).toEqual({
      prompt: 7,
      completion: 3,
      cached: 4,
      estimated: 3,
    })
  })
})

describe('a pool object that was reset', () => {
  it('is noticed by who holds a lease, and counts him again when he comes back', async () => {
    await pool('reset').configure(poolConfig())
    const { lease } = await granted('reset')
    const noticed = lease.wait().then(
      () => 'resolved',
      () => 'rejected',
    )
    await abortAllDurableObjects()
    expect(await noticed).toBe('rejected')
    expect(await inFlight('reset')).toEqual({ a: 0 })

    const back = await pool('reset').reattach({ ...demand(), instance: 'a' })
    if (back.kind !== 'reattached') throw new Error(back.kind)
    expect(await inFlight('reset')).toEqual({ a: 1 })
    await back.lease.release(settlement())
    expect(await inFlight('reset')).toEqual({ a: 0 })
  })

  it('gives no more than the slots that its engines leave, until owners are back', async () => {
    await pool('presumed').configure(poolConfig())
    await pool('presumed').status()
    await abortAllDurableObjects()
    upstream.running = 1
    await granted('presumed')
    expect((await pool('presumed').acquire(demand())).kind).toBe('busy')
    // The owner of the one that runs comes back: it is the one the engine spoke of, not a third.
    await pool('presumed').reattach({ ...demand({ request: 'req_0' }), instance: 'a' })
    expect(await inFlight('presumed')).toEqual({ a: 2 })
  })

  it('frees what its engines had once owners had their time, even where a look has broken', async () => {
    const health = { everyMs: 5_000, timeoutMs: 500, downAfter: 1, upAfter: 1 }
    await pool('broken').configure(poolConfig({ health }))
    await pool('broken').status()
    await abortAllDurableObjects()
    upstream.running = 1
    let looks = 0
    upstream.answer = () =>
      ++looks > 1 ? Promise.reject(new TypeError('connection refused')) : undefined
    const { setTimeout: real } = globalThis
    const timers = vi
      .spyOn(globalThis, 'setTimeout')
      .mockImplementation(((act: () => void, ms: number, ...more: []) =>
        real(act, ms > 1_000 ? 1 : ms, ...more)) as typeof setTimeout)
    onTestFinished(() => {
      timers.mockRestore()
    })
    await runInDurableObject(poolStub('broken'), async (object, { storage }) => {
      vi.spyOn(storage.kv, 'put').mockImplementationOnce(() => {
        throw new Error('the disk is full')
      })
      await expect(object.acquire(demand())).rejects.toThrow('the disk is full')
    })
    await vi.waitFor(async () => expect(await inFlight('broken')).toEqual({ a: 0 }))
  })

  it('begins with the configuration that it went on by, not with one that it could not take', async () => {
    await pool('taken').configure(poolConfig())
    const broken = { ...poolConfig({ version: 2 }), instances: null as never }
    await runInDurableObject(poolStub('taken'), (object) =>
      expect(object.configure(broken)).rejects.toThrow(TypeError),
    )
    await abortAllDurableObjects()
    expect((await granted('taken')).target.instance).toBe('a')
    expect((await pool('taken').status()).fleet).toBe(1)
  })

  it('forgets what a kept index says of who has left the fleet since', async () => {
    const index = new AffinityIndex({ capacity: 100 })
    index.note(new Uint8Array(64).fill(7), 'a')
    index.note(new Uint8Array(64).fill(8), 'b')
    await pool('index').configure(poolConfig())
    await runInDurableObject(poolStub('index'), (_pool, { storage }) => {
      storage.kv.put('prefix-index', index.dump())
    })
    await abortAllDurableObjects()
    expect((await pool('index').status()).prefix?.blocks).toBe(1)
  })

  it('remembers its version and who was ready: no prompt is sent again', async () => {
    await pool('memory').configure(poolConfig({ version: 5 }))
    await granted('memory', { fleet: 5 })
    await abortAllDurableObjects()
    upstream.calls = []
    const { fleet: version, instances } = await pool('memory').status()
    expect(version).toBe(5)
    expect(instances).toMatchObject([{ id: 'a', state: 'ready' }])
    expect(upstream.calls).toEqual(['a.test /metrics'])
  })

  it('goes on with a configuration that an earlier release has stored', async () => {
    const { lastResort: _, ...older } = instance('a')
    await pool('older').configure(poolConfig())
    await pool('older').status()
    await runInDurableObject(poolStub('older'), (_pool, { storage }) => {
      storage.kv.put('config', { ...poolConfig(), instances: [older] })
    })
    await abortAllDurableObjects()
    const { target, reason } = await granted('older')
    expect([target.instance, reason]).toEqual(['a', 'least_inflight'])
    expect(upstream.calls, 'it is read as a vLLM').toContain('a.test /metrics')
  })

  it('says that an instance is gone which it does not know', async () => {
    await pool('gone').configure(poolConfig())
    const answer = await pool('gone').reattach({ ...demand(), instance: 'nobody' })
    expect(answer.kind).toBe('gone')
  })
})

describe('the health of a pool', () => {
  it('is looked at by an alarm, again and again', async () => {
    await pool('alarm').configure(poolConfig())
    await pool('alarm').status()
    for (let round = 1; round <= 3; round++) {
      const before = looksAt('a.test')
      expect(await runDurableObjectAlarm(poolStub('alarm'))).toBe(true)
      await vi.waitFor(() => expect(looksAt('a.test')).toBeGreaterThan(before))
    }
  })

  it('takes an instance out after so many bad readings, and in again', async () => {
    await pool('flap').configure(poolConfig())
    await granted('flap').then((grant) => grant[Symbol.dispose]())
    const stateAfterAlarm = async () => {
      const before = looksAt('a.test')
      await runDurableObjectAlarm(poolStub('flap'))
      await vi.waitFor(() => expect(looksAt('a.test')).toBeGreaterThan(before))
      return (await pool('flap').status()).instances[0]?.state
    }
    upstream.answer = () => Promise.reject(new TypeError('connection refused'))
    expect(await stateAfterAlarm()).toBe('ready')
    expect(await stateAfterAlarm()).toBe('down')
    const refused = await pool('flap').acquire(demand())
    expect(refused).toEqual({ kind: 'none-ready', why: ['a down: connection refused'] })

    upstream.answer = () => undefined
    await stateAfterAlarm()
    await vi.waitFor(async () =>
      expect((await pool('flap').acquire(demand())).kind).toBe('granted'),
    )
  })

  it('is not held up by an instance that hangs (L13)', async () => {
    upstream.answer = ({ host, request }) =>
      host === 'hung.test'
        ? new Promise((_resolve, reject) => {
            request.signal.addEventListener('abort', () => reject(request.signal.reason as Error))
          })
        : undefined
    await pool('hung').configure(poolConfig({ instances: [instance('hung'), instance('a')] }))
    expect((await granted('hung')).target.instance).toBe('a')
  })

  it('is not asked of an instance that has left the fleet (L12)', async () => {
    const both = [instance('stays'), instance('leaves')]
    await pool('probes').configure(poolConfig({ instances: both }))
    await pool('probes').status()
    await pool('probes').configure(poolConfig({ version: 2, instances: [instance('stays')] }))
    await pool('probes').status()
    upstream.calls = []
    await runDurableObjectAlarm(poolStub('probes'))
    await vi.waitFor(() => expect(looksAt('stays.test')).toBeGreaterThan(0))
    expect(looksAt('leaves.test')).toBe(0)
  })

  it('of another model than the pool’s is a mismatch, and nobody is sent there', async () => {
    upstream.answer = ({ path }) =>
      path === '/v1/models' ? Response.json({ data: [{ id: 'Other' }] }) : undefined
    await pool('mismatch').configure(poolConfig())
    expect(await pool('mismatch').acquire(demand())).toEqual({
      kind: 'none-ready',
      why: ['a mismatch: serves Other, not M'],
    })
  })
})

describe('readings that are too old', () => {
  const later = async (ms: number, then: () => Promise<void>) => {
    const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + ms)
    await then()
    clock.mockRestore()
  }

  it('are not believed, should an alarm be late: instances are looked at first', async () => {
    await pool('late').configure(poolConfig())
    await granted('late').then((grant) => grant[Symbol.dispose]())
    upstream.calls = []
    upstream.answer = () => Promise.reject(new TypeError('connection refused'))
    await later(60_000, async () => {
      await pool('late').acquire(demand())
      expect(looksAt('a.test')).toBe(1)
      await pool('late').acquire(demand({ request: 'req_2' }))
      expect(looksAt('a.test'), 'once, not for every request').toBe(1)
    })
  })

  it('look no fresher for an alarm that came late: who asks waits for what it finds', async () => {
    const health = { everyMs: 5_000, timeoutMs: 30_000, downAfter: 1, upAfter: 1 }
    await pool('later').configure(poolConfig({ health, instances: [instance('tardy')] }))
    await granted('later').then((grant) => grant[Symbol.dispose]())
    upstream.calls = []
    const { promise: refused, reject: refuse } = Promise.withResolvers<never>()
    upstream.answer = ({ host }) => (host === 'tardy.test' ? refused : undefined)
    await later(5 * 60_000, async () => {
      const alarm = runDurableObjectAlarm(poolStub('later'))
      await vi.waitFor(() => expect(looksAt('tardy.test')).toBe(1))
      const asked = pool('later').acquire(demand())
      const first = await Promise.race([asked, poolStub('later').about()])
      expect(first, 'not answered yet').toEqual({ maxModelLen: null })
      refuse(new TypeError('connection refused'))
      expect((await asked).kind).toBe('none-ready')
      await alarm
    })
  })

  it('are all there is in a pool that nobody asks, until somebody does', async () => {
    await pool('rest').configure(poolConfig())
    await granted('rest').then((grant) => grant[Symbol.dispose]())
    await vi.waitFor(async () => expect(await inFlight('rest')).toEqual({ a: 0 }))
    upstream.calls = []
    await later(11 * 60_000, async () => {
      await runDurableObjectAlarm(poolStub('rest'))
      expect(upstream.calls, 'it rests').toEqual([])
      expect(await runDurableObjectAlarm(poolStub('rest')), 'and has set no alarm').toBe(false)
      expect((await pool('rest').acquire(demand())).kind).toBe('granted')
      expect(looksAt('a.test')).toBe(1)
      expect(await runDurableObjectAlarm(poolStub('rest')), 'it is awake again').toBe(true)
    })
  })
})

describe('the fleet version of a pool', () => {
  it('makes an older one stale', async () => {
    await pool('stale').configure(poolConfig({ version: 3 }))
    await pool('stale').status()
    expect(await pool('stale').acquire(demand({ fleet: 2 }))).toEqual({ kind: 'stale', version: 3 })
  })

  it('never goes back', async () => {
    await pool('order').configure(poolConfig({ version: 3 }))
    const late = poolConfig({ version: 2, instances: [instance('old')] })
    expect(await pool('order').configure(late)).toEqual({ version: 3 })
    expect(Object.keys(await inFlight('order'))).toEqual(['a'])
  })

  it('is fetched from the fleet object where it was never pushed', async () => {
    await fleet().apply({ yaml: FLEET, ifVersion: null })
    // Another object of the same pool, as there is one in each region: nothing was pushed here.
    const { target } = await granted('p@weur')
    expect(target).toMatchObject({ instance: 'a', base: 'http://127.0.0.1:9001' })
    expect((await pool('p@weur').status()).fleet).toBe(1)
  })

  it('that no fleet has is told, and nothing is stored', async () => {
    const answer = await pool('nobodys').acquire(demand())
    expect(answer).toMatchObject({ kind: 'none-ready' })
    await runInDurableObject(poolStub('nobodys'), (_pool, { storage }) => {
      expect([...storage.kv.list()]).toEqual([])
    })
  })

  it('that names another process makes it prove itself, whatever the old one was', async () => {
    await pool('moved').configure(poolConfig())
    const { lease } = await granted('moved')
    upstream.calls = []
    const moved = instance('a', { process: 'http://a.test Other' })
    await pool('moved').configure(poolConfig({ version: 2, servedAs: 'Other', instances: [moved] }))
    expect((await pool('moved').acquire(demand({ fleet: 2 }))).kind).toBe('none-ready')
    await vi.waitFor(() => expect(upstream.calls).toContain('a.test /v1/models'))
    await vi.waitFor(async () =>
      expect((await pool('moved').status()).instances).toMatchObject([
        { id: 'a', state: 'mismatch', inFlight: 0 },
        { id: 'a', state: 'draining', inFlight: 1 },
      ]),
    )
    await lease.release(settlement())
    expect((await pool('moved').status()).instances).toHaveLength(1)
  })

  it('that names again what still drains counts what runs there', async () => {
    await pool('again').configure(poolConfig())
    const { lease } = await granted('again')
    await pool('again').configure(poolConfig({ version: 2, instances: [] }))
    await pool('again').configure(poolConfig({ version: 3 }))
    expect((await pool('again').status()).instances).toMatchObject([
      { id: 'a', state: 'ready', inFlight: 1 },
    ])
    await lease.release(settlement())
    expect(await inFlight('again')).toEqual({ a: 0 })
  })

  it('that takes an instance away lets its requests end (L34)', async () => {
    await pool('drain').configure(poolConfig())
    const { lease } = await granted('drain')
    await pool('drain').configure(poolConfig({ version: 2, instances: [instance('b')] }))
    expect((await pool('drain').status()).instances).toMatchObject([
      { id: 'b' },
      { id: 'a', state: 'draining', inFlight: 1 },
    ])
    await lease.release(settlement())
    expect(Object.keys(await inFlight('drain'))).toEqual(['b'])
  })
})

it('gives the slot of a ticket back whose owner vanished between the grant and his asking', async () => {
  await pool('vanished').configure(poolConfig({ instances: [instance('a', { slots: 1 })] }))
  const { lease } = await granted('vanished')
  const queued = await pool('vanished').acquire(demand({ request: 'waits', mayQueue: true }))
  if (queued.kind !== 'queued') throw new Error(queued.kind)
  await lease.release(settlement())
  ;(queued.ticket as typeof queued.ticket & Partial<Disposable>)[Symbol.dispose]?.()
  ;(queued as typeof queued & Partial<Disposable>)[Symbol.dispose]?.()
  await vi.waitFor(async () => expect(await inFlight('vanished')).toEqual({ a: 0 }))
})
