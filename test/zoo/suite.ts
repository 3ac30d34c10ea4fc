/** Sends clients through the table of cases, each by itself and all at the same time. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { isObject } from '../../scripts/sim/body.ts'
import { inFlight } from '../support/e2e-api.ts'
import { eventually } from '../support/e2e-wait.ts'
import type { Animal } from './animal.ts'
import { CASES, type Case, type Sight } from './cases.ts'
import type { Ask } from './client.ts'
import { NAMES, openZoo, type Zoo } from './fleet.ts'

/**
 * One test for each client and case.
 * @param animals none where the client is not installed
 * @returns the zoo, open once the tests run
 */
export function zooOf(animals: readonly Animal[]): () => Zoo {
  // Most of them wait most of the time.
  vi.setConfig({ maxConcurrency: 10 })
  let zoo: Zoo | undefined
  const open = (): Zoo => {
    if (zoo === undefined) throw new Error('the zoo is closed')
    return zoo
  }
  beforeAll(async () => {
    if (animals.length > 0) zoo = await openZoo()
  })
  afterAll(() => zoo?.stack.stop())

  const rows = CASES.flatMap((one) =>
    animals
      .filter((animal) => modesOf(one, animal).length > 0)
      .map((animal) => ({ animal, one, client: animal.name, what: one.name })),
  )
  it.concurrent.each(rows)('$client $what', async ({ animal, one }) => {
    const visits = modesOf(one, animal).flatMap((mode) =>
      NAMES.map((name) => visit(open(), animal, one, mode, name)),
    )
    const sights = await Promise.all(visits)
    for (const sight of sights) await judged(one, sight)
    expect(sights).not.toHaveLength(0)
  })

  it('leaves no slot taken, and no request of which nobody could say how it ended', async () => {
    const pools = await eventually(
      async () => (zoo === undefined ? [] : zoo.stack.admin.pools()),
      (all) => all.every((pool) => inFlight(pool) === 0),
    )
    expect(pools.filter(({ ended }) => ended.lost > 0)).toEqual([])
  })
  return open
}

/** Says of a failure which visit it was. */
async function judged({ judge }: Case, sight: Sight): Promise<void> {
  try {
    await judge(sight)
  } catch (error) {
    if (error instanceof Error) error.message = `"${sight.ask.text}": ${error.message}`
    throw error
  }
}

const modesOf = ({ modes, applies }: Case, animal: Animal) => {
  const can = { stream: animal.streams, whole: animal.wholes ?? true }
  return (applies?.(animal) ?? true) ? modes.filter((mode) => can[mode]) : []
}

async function visit(
  zoo: Zoo,
  animal: Animal,
  { name, pool, ask: asks, model, stranger, tries = 1 }: Case,
  mode: 'stream' | 'whole',
  { kind, of }: (typeof NAMES)[number],
): Promise<Sight> {
  const { url, apiKey } = zoo.stack
  const door = { url, apiKey: stranger ? apiKey.replace(/.$/, '!') : apiKey }
  for (let attempt = 1; ; attempt++) {
    const ask: Ask = {
      model: model ?? of(pool),
      text: `${animal.name} ${name} ${mode} ${kind} ${attempt}`,
      stream: mode === 'stream',
      tokens: 30,
      // One in a hurry may leave before it has been asked at all.
      patienceMs: 300 * 2 ** attempt,
      ...asks,
    }
    const said = await animal.say(door, ask)
    const seen = sightings(zoo, pool, ask)
    if (attempt < tries && !seen.some(({ instance }) => instance === pool)) continue
    // The last token's news may still be on their way to the record.
    await eventually(
      () => seen.map(({ record }) => record.outcome),
      (outcomes) => !outcomes.includes('open'),
    )
    const body = seen.at(-1)?.record.body
    const truth = isObject(body) && ask.wants !== 'broken' ? animal.truth(body) : null
    return { animal, ask, said, seen, truth }
  }
}

const sightings = (zoo: Zoo, pool: Case['pool'], { text }: Ask): Sight['seen'] =>
  zoo.sims(pool).flatMap(({ id, sim }) =>
    sim
      .requests()
      // Where a fault answers in the engine's place, the body is not read, and nothing is known of it.
      .filter(({ body }) => body !== undefined && JSON.stringify(body).includes(`${text}"`))
      .map((record) => ({ instance: id, record })),
  )
