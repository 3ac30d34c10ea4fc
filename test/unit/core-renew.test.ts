import { beforeEach, expect, it } from 'vitest'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { renewed } from '../../worker/routing/renew.ts'
import { asked } from './core-asked.ts'
import { modelRoute, snapshot } from './core-builders.ts'

/** The isolate's copy is one and lives on: each test's fleet is newer than the one before. */
let version = 0
beforeEach(() => {
  version += 10
})

/** The fleet versions that a request's routes have, once its pool has told of one. */
async function versionsBy(told: number, fleet: Snapshot): Promise<number[]> {
  const source = {
    load: async () => fleet,
    now: () => 0,
    sleep: () => new Promise<void>(() => {}),
    defer: () => undefined,
  }
  const routes = await renewed(source, asked({ model: 'qwen' }), told)
  return routes.map((route) => route.fleet)
}

const fleet = (): Snapshot =>
  snapshot({
    version,
    models: {
      qwen: modelRoute({ fallback: ['small'] }),
      small: modelRoute({ name: 'small' }),
    },
  })

it('a request goes on by the fleet that was loaded since its pool told of a newer one', async () => {
  expect(await versionsBy(version, fleet())).toEqual([version, version])
  expect(await versionsBy(version - 1, fleet()), 'newer than the pool knows').toEqual([
    version,
    version,
  ])
})

it('the pool’s word counts where no news is to be had: it would be stale for ever', async () => {
  expect(await versionsBy(version + 3, fleet())).toEqual([version + 3, version + 3])
})
