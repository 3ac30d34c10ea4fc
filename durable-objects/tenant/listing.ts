import type { KeyValue } from '../pool/keepsake.ts'
import type { DirectoryEntry, DirectoryRpc } from './contract.ts'

/** How long the directory may take, in milliseconds. */
const ANSWER_MS = 3_000
/** The wait before it is asked again, doubled each time up to the most, in milliseconds. */
const FIRST_WAIT_MS = 5_000
const MOST_WAIT_MS = 3_600_000

/** Kept until the directory has taken what there is now. */
interface Owed {
  readonly id: string
  readonly attempts: number
  /** Unix milliseconds. */
  readonly due: number
}

/** What is kept once it has: a tenant of a release without a directory has neither. */
const LISTED = 'listed'

export interface ListingDeps {
  readonly kv: KeyValue & { delete(key: string): unknown }
  /** A new stub for each call: one that has failed stays broken. */
  readonly directory: () => DirectoryRpc
  /** The line as it should be; null when there is no such tenant any more. */
  readonly entry: () => DirectoryEntry | null
  readonly now: () => number
}

/**
 * Keeps a tenant's line in the directory current. That it is owed is stored with the change itself, so
 * that neither a reset nor a directory out of reach loses it.
 */
export class Listing {
  readonly #deps: ListingDeps
  /** Raised with each change: what was told while it happened is old. */
  #changes = 0
  #telling: Promise<void> | null = null

  constructor(deps: ListingDeps) {
    this.#deps = deps
  }

  /** Whether the directory was never told of this tenant: an earlier release created it. */
  get unknown(): boolean {
    return this.#deps.kv.get('listing') === undefined
  }

  /** When to try again, Unix milliseconds; null when nothing is owed. */
  get due(): number | null {
    return this.#owed?.due ?? null
  }

  /** To be called with each change of the line, in the transaction that makes it. */
  owe(id: string): void {
    this.#changes++
    this.#write({ id, attempts: 0, due: this.#deps.now() + FIRST_WAIT_MS })
  }

  /** Tells the directory what there is now, if anything is owed. Never rejects. */
  tell(): Promise<void> {
    this.#telling ??= this.#tell().finally(() => {
      this.#telling = null
    })
    return this.#telling
  }

  async #tell(): Promise<void> {
    for (let owed = this.#owed; owed; owed = this.#owed) {
      const { id, attempts } = owed
      const changes = this.#changes
      const entry = this.#deps.entry()
      const told = await this.#send(id, entry)
      if (changes !== this.#changes) continue
      if (!told) {
        const wait = Math.min(MOST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempts)
        this.#write({ id, attempts: attempts + 1, due: this.#deps.now() + wait })
        return
      }
      if (entry) this.#write(LISTED)
      else this.#deps.kv.delete('listing')
    }
  }

  async #send(id: string, entry: DirectoryEntry | null): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | null = null
    const tooLate = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, ANSWER_MS, false)
    })
    const taken = async (): Promise<boolean> => {
      const directory = this.#deps.directory()
      await (entry ? directory.put([entry]) : directory.remove(id))
      return true
    }
    try {
      return await Promise.race([taken(), tooLate])
    } catch {
      return false
    } finally {
      if (timer !== null) clearTimeout(timer)
    }
  }

  get #owed(): Owed | null {
    const kept = this.#deps.kv.get('listing') as Owed | typeof LISTED | undefined
    return kept === undefined || kept === LISTED ? null : kept
  }

  #write(kept: Owed | typeof LISTED): void {
    this.#deps.kv.put('listing', kept)
  }
}
