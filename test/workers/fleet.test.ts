import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it, vi } from 'vitest'
import { FORMAT } from '../../durable-objects/fleet/compile.ts'
import { fleet, FLEET, fleetStub, inRegion, pool, TWO_POOLS } from './world.ts'

const apply = async (yaml: string, ifVersion: number | null = null) =>
  fleet().apply({ yaml, ifVersion })
const EDITED = FLEET.replace('slots: 2', 'slots: 3')
/** What this release compiles and the one before did not. */
const NEW_FIELDS = new Set(
  'format fallback earlyCommitMs limits mediaDomains reasoningField lastResort'.split(' '),
)

/** Makes the current version look as the release before left it, but for its `corsOrigins`. */
const storeAsBefore = (yaml: string) =>
  runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
    const newest = 'SELECT version, compiled FROM versions ORDER BY version DESC LIMIT 1'
    const { version, compiled } = sql.exec<{ version: number; compiled: string }>(newest).one()
    const older = JSON.parse(compiled, (key, value: unknown) => {
      if (NEW_FIELDS.has(key)) return undefined
      return key === 'corsOrigins' ? ['https://before.example'] : value
    }) as object
    const update = 'UPDATE versions SET yaml = ?, compiled = ? WHERE version = ?'
    sql.exec(update, yaml, JSON.stringify(older), version)
  })

/** `format` of what is stored of the current version. */
const storedFormat = () =>
  runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
    const newest = 'SELECT compiled FROM versions ORDER BY version DESC LIMIT 1'
    const { compiled } = sql.exec<{ compiled: string }>(newest).one()
    return (JSON.parse(compiled) as { format?: number }).format
  })

// One after the other on the one fleet object: each goes on where the last one stopped.
describe('the fleet object', () => {
  it('has nothing before the first file', async () => {
    expect(await fleet().snapshot(0)).toBeNull()
    expect(await fleet().poolConfig('p')).toBeNull()
    expect(await fleet().file(null)).toBeNull()
    expect(await fleet().versions()).toEqual([])
  })

  it('refuses a file with mistakes, tells each, and stores nothing', async () => {
    const answer = await apply('pools: { p: { instances: [] } }\nmodles: {}\n')
    if (answer.kind !== 'invalid') throw new Error(answer.kind)
    expect(answer.problems.length).toBeGreaterThan(1)
    for (const problem of answer.problems)
      expect(problem).toMatchObject({ line: expect.any(Number) })
    expect(await fleet().versions()).toEqual([])
  })

  it('makes a valid file version 1 and gives each pool its part', async () => {
    const answer = await apply(FLEET)
    expect(answer).toMatchObject({
      kind: 'applied',
      version: 1,
      changed: true,
      pools: [{ pool: 'p', taken: true, version: 1 }],
    })
    expect((await fleet().snapshot(0))?.version).toBe(1)
    expect(await fleet().snapshot(1), 'who knows it is told nothing').toBeNull()
    expect((await pool('p').status()).fleet).toBe(1)
  })

  it('makes no new version of the same file', async () => {
    expect(await apply(FLEET)).toMatchObject({ kind: 'applied', version: 1, changed: false })
    expect(await fleet().versions()).toHaveLength(1)
  })

  it('numbers what changes, and keeps every file as it was written', async () => {
    expect(await apply(EDITED, 1)).toMatchObject({ version: 2, changed: true })
    expect((await fleet().versions()).map(({ version }) => version)).toEqual([2, 1])
    expect((await fleet().file(1))?.yaml).toBe(FLEET)
    expect((await fleet().file(null))?.yaml).toBe(EDITED)
    expect(await fleet().file(9)).toBeNull()
    expect((await fleet().poolConfig('p'))?.instances[0]?.slots).toBe(3)
  })

  it('refuses a change that was made to an older version', async () => {
    expect(await apply(FLEET, 1)).toEqual({ kind: 'conflict', version: 2 })
    expect((await fleet().file(null))?.yaml).toBe(EDITED)
  })

  it('keeps the age of a model through versions, even when it was away', async () => {
    const createdOf = async (model: string) => (await fleet().snapshot(0))?.models[model]?.created
    const born = await createdOf('m')
    expect(born).toBeGreaterThan(1_700_000_000)
    const later = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 86_400_000)
    await apply(TWO_POOLS)
    later.mockRestore()
    expect(await createdOf('m')).toBe(born)
    expect(await createdOf('n')).toBeGreaterThan(born!)
    expect((await fleet().snapshot(0))?.version).toBe(3)
  })

  it('empties a pool that has left the fleet', async () => {
    expect((await pool('q').status()).instances).toHaveLength(1)
    expect(await apply(FLEET)).toMatchObject({
      version: 4,
      pools: [
        { pool: 'p', taken: true },
        { pool: 'q', taken: true, version: 4 },
      ],
    })
    expect((await pool('q').status()).instances).toEqual([])
    expect(await fleet().poolConfig('q')).toBeNull()
  })

  it('has all of it again after a reset', async () => {
    await abortAllDurableObjects()
    expect((await fleet().snapshot(0))?.version).toBe(4)
    expect(await fleet().versions()).toHaveLength(4)
    expect(await apply(FLEET)).toMatchObject({ version: 4, changed: false })
  })

  it('makes anew, after a deploy, what an earlier release made of the file', async () => {
    const born = (await fleet().snapshot(0))?.models['m']?.created
    await storeAsBefore(FLEET)
    await abortAllDurableObjects()
    expect(await fleet().snapshot(0)).toMatchObject({
      version: 4,
      corsOrigins: ['*'],
      models: { m: { created: born, fallback: [] } },
      pools: {
        p: {
          earlyCommitMs: 15_000,
          limits: { bodyBytes: 4096, audioBytes: 26 * 1024 ** 2, n: 8, outputTokens: 8192 },
          mediaDomains: [],
          reasoningField: 'both',
        },
      },
    })
    expect((await fleet().poolConfig('p'))?.instances).toMatchObject([{ lastResort: false }])
    expect(await storedFormat(), 'once, not at every start').toBe(FORMAT)
    expect(await fleet().versions()).toHaveLength(4)
  })

  it('gives a pool that moves to another region an object there, and empties the old one', async () => {
    expect(await apply(inRegion('weur'))).toMatchObject({ version: 5 })
    expect((await pool('p').status()).instances, 'it had none before').toEqual([])
    expect((await pool('p@weur').status()).instances).toHaveLength(1)
    expect(await apply(inRegion('apac'))).toMatchObject({ version: 6 })
    expect((await pool('p@weur').status()).instances).toEqual([])
    expect(await pool('p@apac').status()).toMatchObject({ fleet: 6, instances: [{ id: 'a' }] })
  })

  it('goes on with a file that this release would refuse, as the older one had read it', async () => {
    await storeAsBefore('x: 1')
    await abortAllDurableObjects()
    expect(await fleet().snapshot(0)).toMatchObject({
      version: 6,
      corsOrigins: ['https://before.example'],
      models: { m: { name: 'm', fallback: [] } },
      pools: { p: { earlyCommitMs: 15_000, limits: { bodyBytes: 4096, n: 8 } } },
    })
    expect(await fleet().poolConfig('p')).toMatchObject({
      version: 6,
      servedAs: 'M',
      instances: [{ lastResort: false }],
    })
    expect((await fleet().file(null))?.yaml, 'and hides nothing').toBe('x: 1')

    expect(await apply(FLEET, 6)).toMatchObject({ version: 7, changed: true })
    expect((await pool('p').status()).instances).toHaveLength(1)
    expect((await pool('p@apac').status()).instances, 'even what it leaves is known').toEqual([])
  })

  it('reads a version that this release makes more of than a row can hold', async () => {
    const instances = Array.from({ length: 8_000 }, (_, i) => {
      return `{ id: i-${i}, url: "http://10.0.${i >> 8}.${i & 255}:8001" }`
    })
    const large = FLEET.replace(
      'models:',
      `  q: { served_as: M, instances: [${instances.join()}] }\nmodels:`,
    )
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      const insert = `INSERT INTO versions (version, at, models, pools, yaml, compiled)
        VALUES (8, ?, 1, 2, ?, '{}')`
      sql.exec(insert, Date.now(), large)
    })
    await abortAllDurableObjects()
    expect((await fleet().snapshot(0))?.version).toBe(8)
    expect((await fleet().poolConfig('q'))?.instances).toHaveLength(8_000)
    expect(await storedFormat(), 'made anew at each start').toBeUndefined()
    expect(await apply(FLEET, 8)).toMatchObject({ version: 9, changed: true })
  })

  it('shows a file, not what was made of it', async () => {
    expect(Object.keys((await fleet().file(null)) ?? {}).sort()).toEqual([
      'at',
      'by',
      'message',
      'models',
      'pools',
      'version',
      'yaml',
    ])
  })
})
