import { RpcTarget } from 'cloudflare:workers'
import type { Acquired, TicketRpc } from './contract.ts'
import type { Decision, Pending } from './dispatcher.ts'

/**
 * A place in the queue, in a Worker's hands. The runtime disposes it when the request's context ends,
 * so that one who leaves while he waits never gets a slot that somebody else could use.
 */
export class Ticket extends RpcTarget implements TicketRpc {
  readonly #pending: Pending
  readonly #answer: (decision: Decision) => Acquired
  #taken = false

  /** @param answer makes the lease of a slot that was granted */
  constructor(pending: Pending, answer: (decision: Decision) => Acquired) {
    super()
    this.#pending = pending
    this.#answer = answer
  }

  /** A lease that nobody is left to receive is disposed by the runtime, and its slot is free again. */
  async wait(): Promise<Acquired> {
    this.#taken = true
    return this.#answer(await this.#pending.decision)
  }

  leave(): void {
    this.#pending.leave()
    // Granted, and nobody has asked what came of it: nobody will.
    if (!this.#taken) this.#pending.giveBack()
  }

  [Symbol.dispose](): void {
    this.leave()
  }
}
