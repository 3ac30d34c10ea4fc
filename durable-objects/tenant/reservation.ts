import { RpcTarget } from 'cloudflare:workers'
import { Watch } from '../pool/watch.ts'
import { LOST } from './booking.ts'
import type { Bill, ReservationRpc } from './contract.ts'

/** What a reservation is about. */
export interface Hold {
  /** Resolves when the request must end. */
  readonly dismissed: Promise<void>
  readonly settle: (bill: Bill) => void
}

/**
 * A request's part of its tenant's allowance, in a Worker's hands. The runtime disposes it when the
 * request's context ends, whatever ended it, so that a reservation dies with its request (L32).
 */
export class Reservation extends RpcTarget implements ReservationRpc {
  readonly #hold: Hold
  #settled = false

  constructor(hold: Hold) {
    super()
    this.#hold = hold
  }

  wait(): Promise<void> {
    return this.#hold.dismissed
  }

  /** While somebody waits on what it gives, the reservation itself can be dropped. */
  watch(): Watch {
    return new Watch(this.#hold.dismissed)
  }

  /** Only the first word counts; that a drop always follows shall not cost a look into the ledger. */
  settle(bill: Bill): void {
    if (this.#settled) return
    this.#settled = true
    this.#hold.settle(bill)
  }

  [Symbol.dispose](): void {
    this.settle(LOST)
  }
}
