import type { PoolConfig } from '../fleet/snapshot.ts'
import type { Fitness } from '../health/fitness.ts'
import { AFFINITY_CAPACITY } from '../scheduling/affinity.ts'
import {
  CONTRACT_VERSION,
  type InstanceStatus,
  type PoolAbout,
  type PoolStatus,
  type QueueStatus,
} from './contract.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Ledger } from './ledger.ts'
import type { Seat } from './seat.ts'

/** What an operator sees of a pool. */
export function statusOf(
  config: PoolConfig | null,
  dispatcher: Dispatcher,
  fitness: Fitness<Seat>,
): PoolStatus {
  const { ledger, chooser, tally } = dispatcher
  return {
    contract: CONTRACT_VERSION,
    pool: config?.pool ?? '',
    fleet: config?.version ?? 0,
    policy: chooser.policy,
    instances: [...ledger.everySeat()].map((seat) => instanceStatus(seat, dispatcher, fitness)),
    granted: tally.granted,
    ended: tally.ended,
    tokens: tally.tokens.totals,
    queue: queueStatus(dispatcher, config),
    prefix: { blocks: chooser.affinity.size, capacity: AFFINITY_CAPACITY, ...tally.hits.totals },
    paths: Array.from(fitness.paths.all(), ([site, path]) => ({ site, ...path })),
    tokensPerSecond: tally.throughput.perSecond(ledger.size),
    usualOutputTokens: tally.usualOutputTokens,
    pressure: dispatcher.pressure,
    arms: tally.arms.counts,
  }
}

/** What there is to know of the model, by the last readings, however old they are. */
export function aboutOf({ ledger }: Dispatcher, fitness: Fitness<Seat>): PoolAbout {
  let maxModelLen: number | null = null
  for (const seat of ledger.seats) {
    const said = fitness.ward(seat).maxModelLen
    if (said !== null) maxModelLen = Math.min(said, maxModelLen ?? said)
  }
  return { maxModelLen }
}

/**
 * Why nobody is ready, instance by instance. For logs.
 * @param adapter that was asked for; null: none
 */
export const whyNotReady = (
  ledger: Ledger,
  fitness: Fitness<Seat>,
  adapter: string | null,
): string[] =>
  Array.from(ledger.seats, (seat) => {
    const { instance } = seat.config
    if (seat.state === 'ready' && adapter !== null)
      return `${instance}: does not list adapter ${adapter}`
    const { state, reason } = wordsFor(seat, ledger, fitness)
    return `${instance} ${state}: ${reason}`
  })

function instanceStatus(
  seat: Seat,
  { ledger }: Dispatcher,
  fitness: Fitness<Seat>,
): InstanceStatus {
  const ward = fitness.ward(seat)
  const { backlog, config } = seat
  const { running, waiting, kvUse, prefixQueries, prefixHits } = ward.gauges
  return {
    id: config.instance,
    ...wordsFor(seat, ledger, fitness),
    since: ward.since,
    inFlight: seat.inFlight,
    slots: config.slots,
    running,
    waiting,
    kvUse,
    prefixQueries,
    prefixHits,
    weight: config.weight,
    ramp: ward.ramp,
    errorRate: ward.errorRate,
    breaker: ward.breaker.state,
    drained: ledger.isDrained(seat),
    promptTokensAhead: backlog.promptTokensAhead,
    outputTokensAhead: backlog.outputTokensAhead,
    prefillMsPerToken: backlog.prefillMsPerToken,
    msPerToken: backlog.msPerToken,
    maxModelLen: ward.maxModelLen,
    region: config.region ?? null,
  }
}

/** Draining is the fleet's or an operator's word, everything else what the readings say. */
function wordsFor(
  seat: Seat,
  ledger: Ledger,
  fitness: Fitness<Seat>,
): Pick<InstanceStatus, 'state' | 'reason'> {
  const { state, reason } = fitness.ward(seat)
  if (!seat.draining) return { state, reason }
  if (!ledger.isDrained(seat)) return { state: 'draining', reason: 'no longer in the fleet' }
  const empty = seat.inFlight === 0
  return { state: 'draining', reason: `drained by an operator${empty ? ', empty' : ''}` }
}

const queueStatus = ({ queue, tally }: Dispatcher, config: PoolConfig | null): QueueStatus => ({
  length: queue.size,
  max: config?.queue?.max ?? 0,
  byClass: {
    interactive: queue.sizeOf('interactive'),
    standard: queue.sizeOf('standard'),
    batch: queue.sizeOf('batch'),
  },
  ...tally.queue,
})
