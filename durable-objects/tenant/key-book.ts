import type { KeyEntry } from './contract.ts'
import { sameText } from './keys.ts'
import { addressTest } from './networks.ts'
import type { AddressTest } from './networks.ts'

/** A key as it is stored. */
export interface StoredKey extends Required<KeyEntry> {
  /** SHA-256 of the whole key, hex. */
  readonly hash: string
  /** Whether what ran by it was told to end when it was revoked. */
  readonly endRunning: boolean
}

/** A key, with what is worked out of it once. */
export interface BookedKey {
  readonly stored: StoredKey
  readonly allowsAddress: AddressTest
}

const EVERYWHERE: AddressTest = () => true

/** Whether a key is neither revoked nor expired. @param now Unix milliseconds */
export const holds = ({ revoked, expires }: StoredKey, now: number): boolean =>
  revoked === null && (expires === null || now < expires)

/** The keys of one tenant: which of them holds. */
export class KeyBook {
  readonly #keys = new Map<string, BookedKey>()

  put(stored: StoredKey): BookedKey {
    const { addresses } = stored.limits
    const key = { stored, allowsAddress: addresses === null ? EVERYWHERE : addressTest(addresses) }
    this.#keys.set(stored.id, key)
    return key
  }

  get(id: string): BookedKey | undefined {
    return this.#keys.get(id)
  }

  /**
   * The key, if it is valid now: known, the very same, neither revoked nor expired. Which of these it
   * fails is not told, and hashes are compared in a time that says nothing of them.
   * @param hash SHA-256 of the whole key, hex
   * @param now  Unix milliseconds
   */
  valid(id: string, hash: string, now: number): BookedKey | undefined {
    const key = this.#keys.get(id)
    if (!key || !sameText(key.stored.hash, hash)) return undefined
    return holds(key.stored, now) ? key : undefined
  }

  /**
   * What a key shares with that which it replaces, and with those before: one minute, one month's budget.
   * Else each rotation would give both anew.
   * @returns the first key's id
   */
  lineageOf(id: string): string {
    let first = id
    for (const key of this.#lineOf(id)) first = key
    return first
  }

  /**
   * Who has taken a key's place by now, the last of each line: the key itself, where nobody has replaced it;
   * several, where one was revoked and the key before it replaced once more.
   */
  heirsOf(id: string): readonly StoredKey[] {
    const all = this.all()
    const replaced = new Set(all.map(({ replaces }) => replaces))
    return all.filter((key) => !replaced.has(key.id) && this.#lineOf(key.id).has(id))
  }

  all(): readonly StoredKey[] {
    return Array.from(this.#keys.values(), ({ stored }) => stored)
  }

  /** A key's id, that of the one which it replaces, and so on. A backup may make a ring of them. */
  #lineOf(id: string): ReadonlySet<string> {
    const line = new Set<string>()
    for (let at: string | null = id; at !== null && !line.has(at);) {
      line.add(at)
      at = this.#keys.get(at)?.stored.replaces ?? null
    }
    return line
  }
}
