import type { Account } from './account.ts'
import type { CreatedKey, KeyEntry, NewKey } from './contract.ts'
import { holds, type StoredKey } from './key-book.ts'
import { entryOf, makeKey, type MadeKey, type NewKeyDeps } from './new-key.ts'

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

  async issue(wanted: NewKey): Promise<CreatedKey> {
    const made = await this.#make()
    const account = this.#deps.account()
    if (!made || !account) return { kind: 'no-tenant' }
    const stored = made.with(wanted)
    this.#keep(account, stored)
    return { kind: 'created', key: made.key, entry: entryOf(stored) }
  }

  /**
   * A new key with the settings of an old one, which goes on for a while. As long as the new one is valid, the old
   * one has no other.
   */
  async rotate(id: string, graceMs: number): Promise<CreatedKey> {
    const made = await this.#make()
    // Nothing is awaited from here on: of two rotations at once, the second finds what the first has made.
    const account = this.#deps.account()
    if (!made || !account) return { kind: 'no-tenant' }
    const now = this.#deps.now()
    const old = account.key(id)
    if (!old || !holds(old, now)) return { kind: 'no-key' }
    const heirs = account.heirsOf(id)
    const heir = heirs.find((key) => key.id !== id && holds(key, now))
    if (heir) return { kind: 'no-key', replacedBy: heir.id }
    // Of one that was replaced before, `expires` is the end of its grace; its heir still says when it was to end.
    const [{ expires } = old] = heirs
    const stored = made.with({ ...old, expires, replaces: id })
    const ending = { ...old, expires: Math.min(old.expires ?? Infinity, now + graceMs) }
    this.#keep(account, stored)
    this.#keep(account, ending)
    return { kind: 'created', key: made.key, entry: entryOf(stored), old: entryOf(ending) }
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

  /** Null: there is no tenant. */
  async #make(): Promise<MadeKey | null> {
    const id = this.#deps.account()?.id
    return id === undefined ? null : makeKey(id, this.#deps)
  }

  #keep(account: Account, key: StoredKey): void {
    account.putKey(key)
    this.#deps.putKey(key)
  }
}
