import type { Account } from './account.ts'
import type { CreatedKey, KeyEntry, NewKey } from './contract.ts'
import type { StoredKey } from './key-book.ts'
import { entryOf, makeKey, type NewKeyDeps } from './new-key.ts'

export interface KeyIssuerDeps extends NewKeyDeps {
  /** Null: the tenant is no more. Asked anew after each wait. */
  readonly account: () => Account | null
  /** Stores a key, new or as it is from now on. */
  readonly putKey: (key: StoredKey) => void
}

/** Makes, replaces and revokes a tenant's keys. */
export class KeyIssuer {
  readonly #deps: KeyIssuerDeps

  constructor(deps: KeyIssuerDeps) {
    this.#deps = deps
  }

  async issue(wanted: NewKey & { readonly replaces?: string | null }): Promise<CreatedKey> {
    const id = this.#deps.account()?.id
    if (id === undefined) return { kind: 'no-tenant' }
    const { key, stored } = await makeKey(id, wanted, this.#deps)
    if (!this.#keep(stored)) return { kind: 'no-tenant' }
    return { kind: 'created', key, entry: entryOf(stored) }
  }

  /** A new key with the settings of an old one, which goes on for a while. */
  async rotate(id: string, graceMs: number): Promise<CreatedKey> {
    const account = this.#deps.account()
    if (!account) return { kind: 'no-tenant' }
    const old = account.key(id)
    const now = this.#deps.now()
    if (!old || old.revoked !== null || (old.expires ?? Infinity) <= now) return { kind: 'no-key' }
    const issued = await this.issue({ ...old, replaces: id })
    // It may have been revoked meanwhile.
    const late = this.#deps.account()?.key(id)
    if (issued.kind === 'created' && late) {
      this.#keep({ ...late, expires: Math.min(late.expires ?? Infinity, now + graceMs) })
    }
    return issued
  }

  /**
   * Works at once, however often it is said.
   * @param endRunning what runs by it ends, too
   * @returns null: there is no such key
   */
  revoke(id: string, endRunning: boolean): KeyEntry | null {
    const account = this.#deps.account()
    const key = account?.revokeKey(id, endRunning)
    if (!account || !key) return null
    this.#deps.putKey(key)
    if (endRunning) account.dismiss(id)
    return entryOf(key)
  }

  /** False: the tenant was removed meanwhile. */
  #keep(key: StoredKey): boolean {
    const account = this.#deps.account()
    if (!account) return false
    account.putKey(key)
    this.#deps.putKey(key)
    return true
  }
}
