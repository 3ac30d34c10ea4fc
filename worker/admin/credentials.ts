import {
  ROOT,
  type Bearer,
  type Operator,
  type OperatorsRpc,
  type Role,
} from '../../durable-objects/operators/contract.ts'
import { tokenId } from '../../durable-objects/operators/tokens.ts'
import { hashKey, sameText } from '../../durable-objects/tenant/keys.ts'
import { reach, Refusal } from '../refusal.ts'
import { AccessAssertions, type AccessSettings } from './access.ts'
import { OPERATORS_SERVICE } from './words.ts'

/** How long the object's word is believed, in milliseconds: what is revoked ends elsewhere by then. */
const BELIEVED_MS = 5_000
const KEPT = 1_000

/** Somebody who is who he says: what he may do, where he may do anything. */
export interface Caller {
  readonly name: string
  /** Null: no role here. */
  readonly role: Role | null
}

/** What a caller is checked with. */
export interface Proof {
  /** The `ADMIN_TOKEN`; '' or undefined opens nothing. */
  readonly root: string | undefined
  /** Null: Cloudflare Access is not asked. */
  readonly access: AccessSettings | null
  /** A new stub for each call. */
  readonly operators: () => OperatorsRpc
}

interface Believed {
  readonly caller: Caller | null
  /** Unix milliseconds. */
  readonly until: number
}

/**
 * Who calls the operators' API: by the root token, which asks nobody, so that it opens the door also
 * while the operators' object is out of reach; by a named token; or by Cloudflare Access. One per
 * isolate.
 */
export class Credentials {
  readonly #now: () => number
  readonly #assertions: AccessAssertions
  readonly #believed = new Map<string, Believed>()

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now, assertions = new AccessAssertions()) {
    this.#now = now
    this.#assertions = assertions
  }

  /**
   * A token decides where there is one; Access speaks only for who shows none.
   * @throws Refusal `invalid_api_key`, `origin_not_allowed`, `router_unavailable`
   */
  async identify(request: Request, proof: Proof): Promise<Caller> {
    const authorization = request.headers.get('authorization')
    if (authorization !== null) return this.#byToken(authorization, proof)
    const assertion = request.headers.get('cf-access-jwt-assertion')
    if (assertion === null || proof.access === null) throw badToken()
    // A browser brings what Access has put into its cookies to whoever makes it call.
    if (isFromElsewhere(request)) {
      throw new Refusal('origin_not_allowed', 'A page of another origin may not call this.')
    }
    return this.#byAccess(assertion, proof.access, proof.operators)
  }

  /** From now on nothing is believed that was said before: somebody's rights have just changed. */
  forget(): void {
    this.#believed.clear()
  }

  async #byToken(authorization: string, { root = '', operators }: Proof): Promise<Operator> {
    const token = /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? ''
    if (root !== '' && sameText(token, root)) return { name: ROOT, role: 'admin' }
    const id = tokenId(token)
    if (id === null) throw badToken()
    const hash = await hashKey(token)
    const bearer = await this.#ask(`token ${hash}`, async () => {
      const bearer: Bearer | null = await reach(OPERATORS_SERVICE, () =>
        operators().bearer(id, hash),
      )
      return bearer && { caller: bearer, until: bearer.expires }
    })
    if (bearer?.role) return { name: bearer.name, role: bearer.role }
    throw badToken()
  }

  async #byAccess(
    assertion: string,
    access: AccessSettings,
    operators: Proof['operators'],
  ): Promise<Caller> {
    const name = await this.#assertions.read(assertion, access)
    const known = await this.#ask(`person ${name}`, async () => {
      const role = await reach(OPERATORS_SERVICE, () => operators().roleOf(name))
      return { caller: { name, role }, until: null }
    })
    return known ?? { name, role: null }
  }

  /** What the object says of somebody, or has said a moment ago. */
  async #ask(
    key: string,
    ask: () => Promise<{ readonly caller: Caller; readonly until: number | null } | null>,
  ): Promise<Caller | null> {
    const before = this.#believed.get(key)
    if (before && this.#now() < before.until) return before.caller
    const asked = this.#now()
    const said = await ask()
    if (this.#believed.size >= KEPT) this.#believed.clear()
    const until = Math.min(asked + BELIEVED_MS, said?.until ?? Infinity)
    this.#believed.set(key, { caller: said?.caller ?? null, until })
    return said?.caller ?? null
  }
}

/** The same words for every kind of bad token, so that none can be told from another. */
const badToken = (): Refusal =>
  new Refusal('invalid_api_key', 'The operator token is missing or wrong, or not valid any more.')

/** Whether a browser says that another site's page makes this call. */
function isFromElsewhere({ url, headers }: Request): boolean {
  const origin = headers.get('origin')
  const site = headers.get('sec-fetch-site')
  const foreign = site !== null && site !== 'same-origin' && site !== 'none'
  return foreign || (origin !== null && origin !== new URL(url).origin)
}

/** This isolate's. */
export const credentials = new Credentials()
