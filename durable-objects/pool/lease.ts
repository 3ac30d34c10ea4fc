import { RpcTarget } from 'cloudflare:workers'
import type { LeaseRpc, Settlement } from './contract.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { LeaseId } from './seat.ts'
import { Watch } from './watch.ts'

/**
 * The right to one slot. The runtime disposes it when the request's context ends, whatever ended
 * it, so that giving the slot back never depends on a callback of ours (L03).
 */
export class Lease extends RpcTarget implements LeaseRpc {
  readonly #dispatcher: Dispatcher
  readonly #id: LeaseId

  constructor(dispatcher: Dispatcher, id: LeaseId) {
    super()
    this.#dispatcher = dispatcher
    this.#id = id
  }

  /**
   * Pending for as long as this object lives and the instance is in service: its rejection is how a
   * Worker learns of a reset.
   */
  wait(): Promise<void> {
    return this.#dispatcher.ledger.dismissal(this.#id)
  }

  /** While somebody waits on what it gives, the lease itself can be dropped. */
  watch(): Watch {
    return new Watch(this.wait())
  }

  release(settlement: Settlement): void {
    this.#dispatcher.release(this.#id, settlement)
  }

  [Symbol.dispose](): void {
    this.#dispatcher.release(this.#id, { ending: 'lost' })
  }
}
