import { RpcTarget } from 'cloudflare:workers'
import type { LeaseRpc, Settlement } from './contract.ts'
import type { LeaseId, Ledger } from './ledger.ts'

/**
 * The right to one slot. The runtime disposes it when the request's context ends, whatever ended
 * it, so that giving the slot back never depends on a callback of ours (L03).
 */
export class Lease extends RpcTarget implements LeaseRpc {
  readonly #ledger: Ledger
  readonly #id: LeaseId

  constructor(ledger: Ledger, id: LeaseId) {
    super()
    this.#ledger = ledger
    this.#id = id
  }

  /** Pending for as long as this object lives: its rejection is how a Worker learns of a reset. */
  wait(): Promise<void> {
    return new Promise(() => {})
  }

  release(settlement: Settlement): void {
    this.#ledger.release(this.#id, settlement)
  }

  [Symbol.dispose](): void {
    this.#ledger.release(this.#id, { ending: 'lost' })
  }
}
