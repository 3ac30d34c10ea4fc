import { RpcTarget } from 'cloudflare:workers'
import type { Acquired, TicketRpc } from './contract.ts'
import type { Outcome, Place } from './dispatcher.ts'

/**
 * A place in the queue, in a Worker's hands. The runtime disposes it when the request's context ends,
 * so that one who leaves while he waits never gets a slot that somebody else could use.
 */
export class Ticket extends RpcTarget implements TicketRpc {
  readonly #place: Place
  readonly #answer: (outcome: Outcome) => Acquired
  #taken = false

  /** @param answer makes the lease of a slot that was granted */
  constructor(place: Place, answer: (outcome: Outcome) => Acquired) {
    super()
    this.#place = place
    this.#answer = answer
  }

  /** A lease that nobody is left to receive is disposed by the runtime, and its slot is free again. */
  async wait(): Promise<Acquired> {
    this.#taken = true
    return this.#answer(await this.#place.outcome)
  }

  leave(): void {
    this.#place.leave()
    // Granted, and nobody has asked what came of it: nobody will.
    if (!this.#taken) this.#place.giveBack()
  }

  [Symbol.dispose](): void {
    this.leave()
  }
}
