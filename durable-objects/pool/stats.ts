import type { PoolConfig } from '../fleet/snapshot.ts'
import type { Rounds } from '../health/rounds.ts'
import {
  CONTRACT_VERSION,
  type InstanceState,
  type InstanceStatus,
  type PoolStatus,
} from './contract.ts'
import type { Ledger, Seat } from './ledger.ts'

/** A seat's state: draining is the fleet's word, everything else what the readings say. */
export const stateOf = (seat: Seat, rounds: Rounds): InstanceState =>
  seat.draining ? 'draining' : rounds.health(seat).state

/** What an operator sees of a pool. */
export const statusOf = (
  config: PoolConfig | null,
  ledger: Ledger,
  rounds: Rounds,
): PoolStatus => ({
  contract: CONTRACT_VERSION,
  pool: config?.pool ?? '',
  fleet: config?.version ?? 0,
  policy: ledger.policy,
  instances: [...ledger.everySeat()].map((seat) => instanceStatus(seat, ledger, rounds)),
  granted: ledger.granted,
  ended: ledger.ended,
  tokens: ledger.tokens.totals,
})

/** Why nobody is ready, instance by instance. For logs. */
export const whyNotReady = (ledger: Ledger, rounds: Rounds): string[] =>
  [...ledger.seats].map((seat) => {
    const { state, reason } = rounds.health(seat)
    return `${seat.config.instance} ${state}: ${reason}`
  })

function instanceStatus(seat: Seat, ledger: Ledger, rounds: Rounds): InstanceStatus {
  const { since, reason } = rounds.health(seat)
  return {
    id: seat.config.instance,
    state: stateOf(seat, rounds),
    reason: seat.draining ? 'no longer in the fleet' : reason,
    since,
    inFlight: ledger.inFlight(seat),
    slots: seat.config.slots,
    ...rounds.gauges(seat),
  }
}
