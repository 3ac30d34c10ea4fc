/** Fleet versions: who made them and why, back to an older one, how long they stay, and what breaks none. */
import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { KEPT_MS, KEPT_VERSIONS } from '../../durable-objects/fleet/version-store.ts'
import type { ErrorBody } from './acme.ts'
import { FLEET, fleet, fleetStub, operate, pool } from './world.ts'

/** What came of a call, or why nothing came of it. */
const outcome = async (call: Promise<unknown>): Promise<unknown> => {
  try {
    return await call
  } catch (cause) {
    return cause
  }
}
const SLOTS = (slots: number) => FLEET.replace('slots: 2', `slots: ${slots}`)
const SECRETS = FLEET.replace(
  'slots: 2 }',
  'slots: 2, key_env: VLLM_KEY },\n                { id: b, url: "http://127.0.0.1:9002", key_env: OTHER_KEY }',
)
const apply = (yaml: string, more: object = {}) => fleet().apply({ yaml, ifVersion: null, ...more })
const rollback = (version: number | null, more: object = {}) =>
  fleet().rollback({ version, ifVersion: null, ...more })
const numbers = async () => (await fleet().versions()).map(({ version }) => version)
const slotsNow = async () => (await fleet().poolConfig('p'))?.instances[0]?.slots

beforeEach(() => reset())

describe('a version', () => {
  it('says who made it, when and why', async () => {
    const before = Date.now()
    await apply(FLEET, { by: 'ann', message: 'first light' })
    await apply(SLOTS(3))
    expect(await fleet().versions()).toEqual([
      expect.objectContaining({ version: 2, by: null, message: null }),
      expect.objectContaining({ version: 1, by: 'ann', message: 'first light' }),
    ])
    const first = await fleet().file(1)
    expect(first).toMatchObject({ by: 'ann', message: 'first light', yaml: FLEET })
    expect(first!.at).toBeGreaterThanOrEqual(before)
  })

  it('of an earlier release is read, and the next one stands beside it', async () => {
    await apply(FLEET)
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec('ALTER TABLE versions DROP COLUMN operator')
      sql.exec('ALTER TABLE versions DROP COLUMN message')
    })
    await abortAllDurableObjects()
    expect(await fleet().file(null)).toMatchObject({ version: 1, by: null, message: null })
    await apply(SLOTS(3), { by: 'ann' })
    expect(await fleet().file(null)).toMatchObject({ version: 2, by: 'ann' })
    // What that release writes, should it come back.
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec(
        "INSERT INTO versions (version, at, models, pools, yaml, compiled) VALUES (3, 1, 1, 1, ?, '{}')",
        SLOTS(4),
      )
    })
    await abortAllDurableObjects()
    expect((await fleet().snapshot(0))?.version).toBe(3)
  })

  it('is made by one of two operators at once; the other is told whose it is', async () => {
    await apply(FLEET)
    const both = await Promise.all([
      apply(SLOTS(3), { ifVersion: 1, by: 'ann' }),
      apply(SLOTS(4), { ifVersion: 1, by: 'bob' }),
    ])
    expect(both).toMatchObject([
      { kind: 'applied', version: 2 },
      { kind: 'conflict', version: 2, by: 'ann' },
    ])
    expect(await slotsNow()).toBe(3)
    expect(await rollback(1, { ifVersion: 1 })).toMatchObject({ kind: 'conflict', version: 2 })
    expect(await numbers()).toEqual([2, 1])
  })

  it('is the first of two at once where there was none', async () => {
    const both = await Promise.all([
      apply(SLOTS(3), { ifVersion: 0 }),
      apply(SLOTS(4), { ifVersion: 0 }),
    ])
    expect(both.map(({ kind }) => kind)).toEqual(['applied', 'conflict'])
  })
})

describe('rollback', () => {
  it('makes the old file the next version, for pools and all', async () => {
    await apply(FLEET)
    await apply(SLOTS(3))
    await apply(SLOTS(4))
    expect(await rollback(1, { by: 'bob', message: 'too slow' })).toMatchObject({
      kind: 'applied',
      version: 4,
      changed: true,
      pools: [{ pool: 'p', taken: true, version: 4 }],
    })
    expect(await fleet().file(null)).toMatchObject({
      version: 4,
      yaml: FLEET,
      by: 'bob',
      message: 'back to version 1: too slow',
    })
    expect((await fleet().file(3))?.yaml, 'what was is still there').toBe(SLOTS(4))
    expect(await pool('p').status()).toMatchObject({ fleet: 4, instances: [{ slots: 2 }] })
  })

  it('without a number takes the version before', async () => {
    await apply(FLEET)
    expect(await rollback(null)).toEqual({ kind: 'no-version', version: null })
    await apply(SLOTS(3))
    expect(await rollback(null)).toMatchObject({ kind: 'applied', version: 3 })
    expect(await fleet().file(null)).toMatchObject({ yaml: FLEET, message: 'back to version 1' })
    expect(await rollback(null)).toMatchObject({ kind: 'applied', version: 4 })
    expect(await slotsNow(), 'and back again').toBe(3)
  })

  it('knows what there is not', async () => {
    expect(await rollback(null)).toEqual({ kind: 'no-version', version: null })
    await apply(FLEET)
    expect(await rollback(7)).toEqual({ kind: 'no-version', version: 7 })
    expect(await rollback(1)).toMatchObject({ kind: 'applied', version: 1, changed: false })
  })

  it('refuses a file that this release would not accept, with its mistakes', async () => {
    await apply(FLEET)
    await apply(SLOTS(3))
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec('UPDATE versions SET yaml = ? WHERE version = 1', `oddity: 1${FLEET}`)
    })
    expect(await rollback(1)).toMatchObject({
      kind: 'invalid',
      version: 1,
      problems: [{ path: 'oddity', line: 1 }],
    })
    expect(await numbers()).toEqual([2, 1])
    expect(await slotsNow()).toBe(3)
  })
})

describe('a crash in the middle of making a version', () => {
  let mend = () => {}
  /** Lets the object die, or fail, at the moment when the new version has been written. */
  const breakAt = (how: 'abort' | 'throw') =>
    runInDurableObject(fleetStub(), (_fleet, state) => {
      const { sql } = state.storage
      const exec = sql.exec.bind(sql)
      const spy = vi
        .spyOn(sql, 'exec')
        .mockImplementation((query: string, ...bindings: unknown[]) => {
          const cursor = exec(query, ...bindings)
          if (query.trim().toLowerCase().startsWith('insert into versions')) {
            if (how === 'abort') state.abort('crashed by a test')
            throw new Error('failed by a test')
          }
          return cursor
        })
      mend = () => spy.mockRestore()
    })

  it.each(['abort', 'throw'] as const)('leaves the old one whole (%s)', async (how) => {
    await apply(FLEET)
    const before = { files: await fleet().versions(), snapshot: await fleet().snapshot(0) }
    await breakAt(how)
    const newer = `${SLOTS(3)}  n: { arms: [{ pool: p }] }\n`
    const failed = await outcome(apply(newer))
    expect(String(failed)).toMatch(/by a test/)
    mend()
    const there = async () => ({
      files: await fleet().versions(),
      snapshot: await fleet().snapshot(0),
    })
    expect(await there(), 'in memory').toEqual(before)
    await abortAllDurableObjects()
    expect(await there(), 'in storage').toEqual(before)
    const noted = await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) =>
      sql.exec<{ name: string }>('SELECT name FROM models').toArray(),
    )
    expect(noted, 'no model is noted of a version that never was').toEqual([{ name: 'm' }])
    expect(await pool('p').status()).toMatchObject({ fleet: 1, instances: [{ slots: 2 }] })
    expect(await apply(newer)).toMatchObject({ kind: 'applied', version: 2 })
  })
})

describe('old versions', () => {
  /** As if so many had been applied, the oldest as long ago as that. */
  const fill = async (count: number, at: (version: number) => number) => {
    await apply(FLEET)
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec('UPDATE versions SET at = ? WHERE version = 1', at(1))
      for (let version = 2; version <= count; version++) {
        sql.exec(
          `INSERT INTO versions (version, at, models, pools, yaml, compiled)
            SELECT ?, ?, models, pools, yaml, '{}' FROM versions WHERE version = 1`,
          version,
          at(version),
        )
      }
    })
    await abortAllDurableObjects()
  }
  const LONG_AGO = KEPT_MS + 60_000

  it('are forgotten once there are enough newer ones', async () => {
    await fill(KEPT_VERSIONS + 4, () => Date.now() - LONG_AGO)
    await apply(SLOTS(3))
    const kept = await numbers()
    expect(kept).toHaveLength(KEPT_VERSIONS)
    expect([kept[0], kept.at(-1)]).toEqual([KEPT_VERSIONS + 5, 6])
    expect(await rollback(2)).toEqual({ kind: 'no-version', version: 2 })
    expect((await fleet().snapshot(0))?.models['m'], 'the age of a model is not').toBeDefined()
  })

  it('stay while they are young, however many', async () => {
    const young = 3
    const at = (version: number) => Date.now() - (version < young ? LONG_AGO : KEPT_MS - 60_000)
    await fill(KEPT_VERSIONS + 4, at)
    await apply(SLOTS(3))
    expect((await numbers()).at(-1)).toBe(young)
  })

  it('stay while there are few, however old', async () => {
    await fill(5, () => Date.now() - 10 * LONG_AGO)
    await apply(SLOTS(3))
    expect(await numbers()).toEqual([6, 5, 4, 3, 2, 1])
  })
})

describe('a secret that is not set', () => {
  const lineOf = (piece: string) => SECRETS.slice(0, SECRETS.indexOf(piece)).split('\n').length
  const missing = (name: string) => ({
    line: lineOf(name),
    message: `secret ${name} is not set: npx wrangler secret put ${name} --env=""`,
  })

  it('is a mistake of the file, at each line that names one', async () => {
    expect(await apply(SECRETS)).toMatchObject({
      kind: 'invalid',
      problems: [
        { ...missing('VLLM_KEY'), path: 'pools.p.instances[0].key_env' },
        { ...missing('OTHER_KEY'), path: 'pools.p.instances[1].key_env' },
      ],
    })
    expect(await numbers()).toEqual([])
    const refused = await operate('PUT', '/fleet', SECRETS)
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_fleet' }, problems: [missing('VLLM_KEY'), missing('OTHER_KEY')] },
    ])
    const check = await operate('POST', '/fleet/check', SECRETS)
    expect([check.status, await check.json()]).toMatchObject([
      200,
      { ok: false, problems: [missing('VLLM_KEY'), missing('OTHER_KEY')] },
    ])
  })

  it('is none where the Worker, or the object, has it', async () => {
    expect(await apply(SECRETS, { secrets: ['VLLM_KEY'] })).toMatchObject({
      problems: [missing('OTHER_KEY')],
    })
    // The tests' own deployment has these two.
    const own = SECRETS.replace('VLLM_KEY', 'OTHER_KEY')
    expect(await apply(own, { secrets: ['OTHER_KEY'] })).toMatchObject({ kind: 'applied' })
  })

  it('keeps an old version from coming back', async () => {
    await apply(SECRETS, { secrets: ['VLLM_KEY', 'OTHER_KEY'] })
    await apply(FLEET)
    expect(await rollback(1)).toMatchObject({
      kind: 'invalid',
      version: 1,
      problems: [missing('VLLM_KEY'), missing('OTHER_KEY')],
    })
    expect((await fleet().snapshot(0))?.version).toBe(2)
  })
})

describe("the operators' API", () => {
  const put = (yaml: string, query = '', headers = {}) =>
    operate('PUT', `/fleet${query}`, yaml, headers)
  const back = (body: object, headers = {}) =>
    operate('POST', '/fleet/rollback', JSON.stringify(body), headers)
  const said = async (response: Response) => {
    const { error, ...rest } = await response.json<ErrorBody>()
    return {
      status: response.status,
      ...rest,
      ...(error && { code: error.code, message: error.message }),
    }
  }

  it('writes down who and why, in any language', async () => {
    await put(FLEET, `?message=${encodeURIComponent('新节点 → qwen-3')}`)
    await put(SLOTS(3))
    expect(await said(await back({ message: 'too slow' }))).toMatchObject({
      status: 200,
      version: 3,
    })
    const { versions } = await (
      await operate('GET', '/fleet/versions')
    ).json<{ versions: object[] }>()
    expect(versions).toMatchObject([
      { version: 3, by: 'admin', message: 'back to version 1: too slow' },
      { version: 2, by: 'admin', message: null },
      { version: 1, by: 'admin', message: '新节点 → qwen-3' },
    ])
  })

  it('goes back to a version, on the condition that is named', async () => {
    await put(FLEET)
    await put(SLOTS(3))
    expect(await said(await back({ version: 1 }, { 'if-match': '1' }))).toMatchObject({
      status: 412,
      code: 'conflict',
      version: 2,
      message: expect.stringContaining('admin') as string,
    })
    expect(await said(await back({ version: 1 }, { 'if-match': '2' }))).toMatchObject({
      status: 200,
      version: 3,
      changed: true,
      pools: [{ pool: 'p', taken: true }],
    })
    expect(await said(await back({ version: 9 }))).toMatchObject({
      status: 404,
      code: 'fleet_not_found',
    })
    expect(await said(await back({ version: 0 }))).toMatchObject({
      status: 400,
      code: 'invalid_value',
    })
    expect(await said(await back({ verison: 1 }))).toMatchObject({
      status: 400,
      code: 'invalid_value',
    })
  })

  it('goes back to nothing where there is nothing', async () => {
    expect(await said(await back({}))).toMatchObject({ status: 404, code: 'fleet_not_found' })
  })

  it('names the version whose file it refuses', async () => {
    await put(FLEET)
    await put(SLOTS(3))
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec('UPDATE versions SET yaml = ? WHERE version = 1', 'x: 1')
    })
    const refused = await said(await back({ version: 1 }))
    expect(refused).toMatchObject({
      status: 400,
      code: 'invalid_fleet',
      problems: expect.arrayContaining([expect.objectContaining({ line: 1 })]) as unknown,
    })
    expect(refused.message).toMatch(/^The file of version 1 has \d mistakes\./)
  })

  it('writes down no characters that would show a message as another', async () => {
    await put(FLEET, `?message=${encodeURIComponent('to \u202Egpj.exe\uFEFF 👩\u200D🔧')}`)
    await back({ version: 1, message: '\u2066ok' })
    expect((await fleet().file(1))?.message).toBe('to gpj.exe 👩\u200D🔧')
  })

  it.each(['x'.repeat(501), 'two\nlines', 'two\u2028lines', '\u001B[2J'])(
    'takes no message such as %j',
    async (message) => {
      const query = `?message=${encodeURIComponent(message)}`
      expect(await said(await put(FLEET, query))).toMatchObject({
        status: 400,
        code: 'invalid_value',
      })
      expect(await numbers()).toEqual([])
    },
  )
})
