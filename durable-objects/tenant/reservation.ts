import { RpcTarget } from 'cloudflare:workers'
import { Watch } from '../pool/watch.ts'
import { LOST } from './booking.ts'
import type { Bill, ReservationRpc } from './contract.ts'

/** What a reservation is about. */
export interface Hold {
  /** Resolves when the request must end. Asked when somebody waits. */
  readonly dismissed: () => Promise<void>
  /** Settled once it is written down. */
  readonly settle: (bill: Bill) => Promise<void>
}

/**
 * A request's part of its tenant's allowance, in a Worker's hands. The runtime disposes it when the
 * request's context ends, whatever ended it, so that a reservation dies with its request (L32).
 */
export class Reservation extends RpcTarget implements ReservationRpc {
  readonly #hold: Hold
  #settled: Promise<void> | null = null

  constructor(hold: Hold) {
    super()
    this.#hold = hold
  }

  wait(): Promise<void> {
    return this.#hold.dismissed()
  }

  /** While somebody waits on what it gives, the reservation itself can be dropped. */
  watch(): Watch {
    return new Watch(this.#hold.dismissed())
  }

  /** Only the first word counts; that a drop always follows shall not cost a look into the ledger. */
  settle(bill: Bill): Promise<void> {
    this.#settled ??= this.#hold.settle(bill)
    return this.#settled
  }

  [Symbol.dispose](): void {
    this.settle(LOST).catch(() => {}) // it waits for the next write, and nobody is left to hear of it
  }
}
