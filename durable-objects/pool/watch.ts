import { RpcTarget } from 'cloudflare:workers'
import type { WatchRpc } from './contract.ts'

/**
 * A request's ear. A call that is pending on a lease, or on a reservation, keeps the runtime from
 * dropping it when the request's context ends; this holds nothing, so it may be waited on for as long
 * as one likes.
 */
export class Watch extends RpcTarget implements WatchRpc {
  readonly #word: Promise<void>

  constructor(word: Promise<void>) {
    super()
    this.#word = word
  }

  wait(): Promise<void> {
    return this.#word
  }
}
