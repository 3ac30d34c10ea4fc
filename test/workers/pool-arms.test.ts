import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ArmsReport } from '../../durable-objects/fleet/contract.ts'
import { Fleet } from '../../durable-objects/fleet/fleet-object.ts'
import type { ArmName, Settlement } from '../../durable-objects/pool/contract.ts'
import {
  demand,
  granted,
  instance,
  pool,
  poolConfig,
  poolStub,
  settlement,
  upstream,
} from './world.ts'

const CANARY: ArmName = { model: 'qwen', arm: 'canary' }
const WORK = {
  tenant: 'acme',
  class: 'standard',
  session: 'acme',
  address: '',
  place: null,
  promptTokens: 10,
  outputTokens: null,
  prefix: new Uint8Array(),
} as const
/** Longer than reports are apart. */
const ENOUGH = { timeout: 5_000 }
const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1_300))

beforeEach(() => {
  upstream.calls = []
  upstream.answer = () => undefined
})

const { prototype } = Fleet
const ITS_OWN = Object.getOwnPropertyDescriptor(prototype, 'report')!
afterEach(() => {
  Object.defineProperty(prototype, 'report', ITS_OWN)
})

/** What the fleet object is told, in place of what it makes of it. */
function heard(answer: (report: ArmsReport) => Promise<void> = async () => undefined) {
  const reports: ArmsReport[] = []
  const value = async (report: ArmsReport): Promise<void> => {
    reports.push(structuredClone(report))
    await answer(report)
  }
  Object.defineProperty(prototype, 'report', { ...ITS_OWN, value })
  return reports
}

async function request(name: string, named: Partial<Settlement> = {}, arm = CANARY) {
  const { lease } = await granted(name, { arm })
  await lease.release(settlement(named))
}

describe('how the arms of a model are doing', () => {
  it('is told to the fleet object, all of a second together', async () => {
    const reports = heard()
    await pool('told').configure(poolConfig({ pool: 'told', compared: ['qwen'] }))
    await request('told')
    await request('told', { ending: 'truncated' })
    await request('told', { empty: true }, { model: 'qwen', arm: 'stable' })
    await request('told', {}, { model: 'another', arm: 'stable' })
    expect(reports, 'nobody waits for it').toEqual([])
    await vi.waitFor(() => expect(reports).not.toEqual([]), ENOUGH)
    expect(reports).toMatchObject([
      {
        pool: 'told',
        arms: [
          { ...CANARY, requests: 2, failed: 0, truncated: 1, empty: 0, lost: 0 },
          { model: 'qwen', arm: 'stable', requests: 1, empty: 1 },
        ],
      },
    ])
    expect((await pool('told').status()).arms).toMatchObject([
      { ...CANARY, done: 1, truncated: 1 },
      { model: 'qwen', arm: 'stable', empty: 1 },
    ])
  })

  it('is told later where the fleet object has not heard it', async () => {
    let failures = 1
    const reports = heard(async () => {
      if (failures-- > 0) throw new Error('not now')
    })
    await pool('later').configure(poolConfig({ pool: 'later', compared: ['qwen'] }))
    await request('later')
    await vi.waitFor(() => expect(reports).toHaveLength(1), ENOUGH)
    await request('later')
    await vi.waitFor(() => expect(reports).toHaveLength(2), ENOUGH)
    const said = reports.map(({ arms }) => arms.map(({ requests }) => requests))
    expect(said).toEqual([[1], [2]])
  })

  it('is told to nobody where nothing is compared', async () => {
    const reports = heard()
    await pool('alone').configure(poolConfig({ pool: 'alone' }))
    await request('alone')
    await aWhile()
    expect(reports).toEqual([])
    expect((await pool('alone').status()).arms).toEqual([])
  })

  it('is not told again to a fleet object of the release before, until there is a new version', async () => {
    Reflect.deleteProperty(prototype, 'report')
    await pool('older').configure(poolConfig({ pool: 'older', compared: ['qwen'] }))
    await request('older')
    await aWhile()
    const reports = heard()
    await request('older')
    await aWhile()
    expect(reports).toEqual([])
    await pool('older').configure(poolConfig({ pool: 'older', version: 2, compared: ['qwen'] }))
    await granted('older', { fleet: 2, arm: CANARY }).then(({ lease }) =>
      lease.release(settlement()),
    )
    await vi.waitFor(() => expect(reports).toMatchObject([{ arms: [{ requests: 1 }] }]), ENOUGH)
  })

  it('is counted on after a reset, by who comes back with the arm it is for', async () => {
    heard()
    await pool('back').configure(poolConfig({ pool: 'back', compared: ['qwen'] }))
    await request('back')
    await granted('back', { arm: CANARY })
    await runInDurableObject(poolStub('back'), (object) => object.alarm())
    await abortAllDurableObjects()
    const again = await pool('back').reattach({ ...demand(), instance: 'a', arm: CANARY })
    if (again.kind !== 'reattached') throw new Error(again.kind)
    await again.lease.release(settlement())
    expect((await pool('back').status()).arms).toMatchObject([{ ...CANARY, done: 2 }])
  })
})

describe('what a pool knows of its model', () => {
  const lengths: Readonly<Record<string, number | undefined>> = { 'a.test': 8_192, 'b.test': 4_096 }

  it('is the shortest context of its instances, also at rest and after a reset, without a call', async () => {
    upstream.answer = ({ host, path }) =>
      path === '/v1/models'
        ? Response.json({ data: [{ id: 'M', max_model_len: lengths[host] }] })
        : undefined
    const instances = ['a', 'b', 'c'].map((id) => instance(id))
    await pool('about').configure(poolConfig({ instances }))
    await pool('about').status()
    expect(await pool('about').about!()).toMatchObject({ maxModelLen: 4_096 })
    await abortAllDurableObjects()
    await runInDurableObject(poolStub('about'), (_, { storage }) => storage.deleteAlarm())
    upstream.calls = []
    expect(await pool('about').about!()).toMatchObject({ maxModelLen: 4_096 })
    expect(upstream.calls).toEqual([])
    const alarm = await runInDurableObject(poolStub('about'), (_, { storage }) =>
      storage.getAlarm(),
    )
    expect(alarm, 'nor is it woken').toBeNull()
  })

  it('is nothing where no fleet has it, and nothing is stored for the asking', async () => {
    expect(await pool('nobody').about!()).toMatchObject({ maxModelLen: null })
    const kept = await runInDurableObject(poolStub('nobody'), (_, { storage }) => storage.list())
    expect(kept.size).toBe(0)
  })
})

describe('an adapter', () => {
  const models = (...ids: readonly string[]) => Response.json({ data: ids.map((id) => ({ id })) })

  it('is asked for where it is listed; where nobody lists it, that is why', async () => {
    upstream.answer = ({ host, path }) => {
      if (path !== '/v1/models') return undefined
      return host === 'a.test' ? models('M') : models('M', 'sql-lora')
    }
    const instances = ['a', 'b'].map((id) => instance(id))
    await pool('lora').configure(poolConfig({ instances, adapters: ['sql-lora', 'other'] }))
    const asked = (adapter: string) => ({ work: { ...WORK, adapter } })
    for (const request of ['req_1', 'req_2'])
      expect((await granted('lora', { request, ...asked('sql-lora') })).target.instance).toBe('b')
    expect(await pool('lora').acquire(demand(asked('other')))).toEqual({
      kind: 'none-ready',
      why: ['a: does not list adapter other', 'b: does not list adapter other'],
    })
    const { outcome, instances: verdicts } = await pool('lora').explain(demand(asked('sql-lora')))
    expect(outcome).toBe('busy')
    expect(verdicts.map(({ id, droppedBy }) => [id, droppedBy])).toEqual([
      ['a', 'serves-adapter'],
      ['b', 'free-slot'],
    ])
  })

  it('that was loaded meanwhile is found with the version that names it', async () => {
    let loaded = ['M']
    upstream.answer = ({ path }) => (path === '/v1/models' ? models(...loaded) : undefined)
    await pool('loaded').configure(poolConfig())
    await granted('loaded')
    loaded = ['M', 'sql-lora']
    await pool('loaded').configure(poolConfig({ version: 2, adapters: ['sql-lora', 'other'] }))
    await vi.waitFor(async () => {
      const other = demand({ fleet: 2, work: { ...WORK, adapter: 'other' } })
      expect((await pool('loaded').explain(other)).outcome).toBe('none-ready')
    })
    const work = { ...WORK, adapter: 'sql-lora' }
    expect((await granted('loaded', { fleet: 2, request: 'req_2', work })).kind).toBe('granted')
  })
})
