/** A dispatcher and its ledger behind one surface, with a clock, health and chance of the test's own. */
import type { InstanceConfig, PolicyName } from '../../durable-objects/fleet/snapshot.ts'
import { Dispatcher } from '../../durable-objects/pool/dispatcher.ts'
import type { Tally } from '../../durable-objects/pool/tally.ts'
import type { Health, Vitals } from '../../durable-objects/pool/vitals.ts'
import type { Ledger } from '../../durable-objects/pool/ledger.ts'
import type { Seat } from '../../durable-objects/pool/seat.ts'
import { poolConfig } from './core-builders.ts'

/** Health as a test says it: each figure by the seat, asked for whenever somebody reads it. */
export type Said = Omit<Health, 'ward'> & {
  readonly [figure in keyof Vitals]: (seat: Seat) => Vitals[figure]
}

export class Books {
  readonly clock = { now: 1_000_000 }
  /** Ids of instances that are not ready. */
  readonly down = new Set<string>()
  readonly dispatcher: Dispatcher

  constructor(said: Partial<Said> = {}) {
    this.dispatcher = new Dispatcher({
      now: () => this.clock.now,
      random: () => 0.5,
      health: healthOf({
        stateForWork: ({ config }) => (this.down.has(config.instance) ? 'down' : 'ready'),
        ramp: () => 1,
        errorRate: () => 0,
        gauges: () => ({ running: null, waiting: null, kvUse: null }),
        maxModelLen: () => null,
        readAt: () => 0,
        take: () => 1,
        record: () => undefined,
        ...said,
      }),
    })
  }

  configure(
    instances: readonly InstanceConfig[],
    policy: PolicyName = 'least_inflight',
    more: Partial<Parameters<Dispatcher['configure']>[0]> = {},
  ): void {
    this.dispatcher.configure(poolConfig({ instances, policy, ...more }))
  }

  get acquire(): Dispatcher['acquire'] {
    return this.dispatcher.acquire.bind(this.dispatcher)
  }
  get release(): Dispatcher['release'] {
    return this.dispatcher.release.bind(this.dispatcher)
  }
  get reattach(): Dispatcher['reattach'] {
    return this.dispatcher.reattach.bind(this.dispatcher)
  }
  sweep(): void {
    this.dispatcher.sweep()
  }
  get ledger(): Ledger {
    return this.dispatcher.ledger
  }
  everySeat(): Iterable<Seat> {
    return this.ledger.everySeat()
  }
  inFlight(seat: Seat): number {
    return seat.inFlight
  }
  expectOwners(presumedOf: (seat: Seat) => number): void {
    this.ledger.expectOwners(presumedOf)
  }
  get size(): number {
    return this.ledger.size
  }
  get seats(): Iterable<Seat> {
    return this.ledger.seats
  }
  get ended(): Tally['ended'] {
    return this.dispatcher.tally.ended
  }
  get granted(): number {
    return this.dispatcher.tally.granted
  }
  get policy(): string {
    return this.dispatcher.chooser.policy
  }
  get tokens(): Tally['tokens'] {
    return this.dispatcher.tally.tokens
  }
}

const healthOf = (said: Said): Health => ({
  take: said.take,
  record: said.record,
  ward: (seat) => ({
    get stateForWork() {
      return said.stateForWork(seat)
    },
    get ramp() {
      return said.ramp(seat)
    },
    get errorRate() {
      return said.errorRate(seat)
    },
    get gauges() {
      return said.gauges(seat)
    },
    get readAt() {
      return said.readAt(seat)
    },
    get maxModelLen() {
      return said.maxModelLen(seat)
    },
    get models() {
      return said.models?.(seat) ?? []
    },
  }),
})
