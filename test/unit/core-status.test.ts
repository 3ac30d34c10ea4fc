import { expect, it } from 'vitest'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import { NO_GAUGES } from '../../durable-objects/health/vllm-metrics.ts'
import { Dispatcher } from '../../durable-objects/pool/dispatcher.ts'
import type { Seat } from '../../durable-objects/pool/seat.ts'
import { statusOf } from '../../durable-objects/pool/stats.ts'
import { instance, poolConfig } from './core-builders.ts'
import { looked } from './core-rounds.ts'

it('the status of an instance has what its engine says of itself', async () => {
  const said = { running: 3, waiting: 1, kvUse: 0.5, prefixQueries: 800, prefixHits: 600 }
  const now = () => 1_000
  const fitness = new Fitness<Seat>({
    now,
    look: async () => looked({ kind: 'well' }, { gauges: { ...NO_GAUGES, ...said } }),
    onChange: () => undefined,
    onOut: () => undefined,
  })
  const dispatcher = new Dispatcher({ now, random: () => 0, health: fitness })
  const config = poolConfig({ instances: [instance()] })
  dispatcher.configure(config)
  fitness.configure(dispatcher.ledger.seats, config)
  await fitness.look()
  expect(statusOf(config, dispatcher, fitness).instances).toMatchObject([{ id: 'a', ...said }])
})
