import { Hono } from 'hono'
import type { AppEnv } from '../env.ts'
import { exposition, type Metric, type Sample } from './exposition.ts'
import { armMetrics } from './model-metrics.ts'
import { modelStatuses } from './models.ts'
import { allStatuses } from './pools.ts'
import { metricsOf } from './pool-metrics.ts'
import { operator } from './operator.ts'

/** What every pool decides and sees, for Prometheus. Operators only. */
export const metrics = new Hono<AppEnv>()

metrics.get('/', operator, async (c) => {
  const [models, { pools, unreachable }] = await Promise.all([
    // What a fleet object of the release before cannot say, must not take the rest away.
    modelStatuses(c.env).catch(() => []),
    allStatuses(c.env),
  ])
  const reachable = [
    ...pools.map(({ pool }): Sample => [{ pool }, 1]),
    ...unreachable.map((pool): Sample => [{ pool }, 0]),
  ]
  const page = exposition([...metricsOf(pools), up(reachable), ...armMetrics(models)])
  return c.body(page, 200, { 'content-type': TYPE })
})

const TYPE = 'text/plain; version=0.0.4; charset=utf-8'

const up = (samples: readonly Sample[]): Metric => ({
  name: 'penstock_pool_up',
  type: 'gauge',
  help: "Whether the pool's object answered.",
  samples,
})
