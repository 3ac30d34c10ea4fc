import type { AddressTest } from './networks.ts'
import type { Budget, Standing } from './contract.ts'
import { KeyBook } from './key-book.ts'
import type { BookedKey, StoredKey } from './key-book.ts'
import type { Meter, Scope } from './limits.ts'
import { allowsModel, commonModels } from './model-globs.ts'
import type { Rights } from './rights.ts'
import { SlidingMinute } from './window.ts'

/** In a key's place for one who came with a token of the operator's identity provider. */
export const JWT_KEY = 'jwt'

/** Requests and tokens of one sliding minute, as {@link SlidingMinute.saved} gives them. */
export interface SavedMeter {
  readonly requests: readonly number[]
  readonly tokens: readonly number[]
  /** Tokens that were used and have found no room yet. Absent from an earlier release, or where there are none. */
  readonly debt?: number
}

export interface SavedMeters {
  readonly tenant: SavedMeter
  /** By the first key of those that took each other's place. */
  readonly keys: Readonly<Record<string, SavedMeter>>
}

/** Who comes with a key, or with a token: what holds for him, worked out once. */
export interface Caller {
  /** The key's id, or `jwt`. */
  readonly id: string
  readonly allowsAddress: AddressTest
  /** Whether the key's own list has it; the tenant's is another question. */
  readonly keyAllows: (model: string) => boolean
  /** The tenant's, and the key's where it has limits of its own. */
  readonly scopes: readonly Scope[]
  readonly standing: Standing
  readonly budget: Budget | null
}

interface Known {
  readonly key: BookedKey
  readonly caller: Caller
}

/** Everybody who may come in, with what he has used of his minute. */
export class Callers {
  readonly #book = new KeyBook()
  readonly #tenant: Meter
  /** Keys that have taken each other's place have one, under the name of the first. */
  readonly #meters = new Map<string, Meter>()
  /** Worked out when they first come; a key or a right that changes makes others of them. */
  readonly #known = new Map<string, Known>()
  readonly #rights: Rights

  constructor(keys: Iterable<StoredKey>, rights: Rights, saved: SavedMeters | null) {
    for (const key of keys) this.#book.put(key)
    this.#rights = rights
    this.#tenant = meterOf(saved?.tenant)
    this.#tenantScope()
    for (const [id, meter] of Object.entries(saved?.keys ?? {})) {
      this.#meters.set(id, meterOf(meter))
      this.get(id) // debt must know its limit before anybody asks how much there is
    }
  }

  /** What holds for the tenant has changed. */
  forget(): void {
    this.#known.clear()
  }

  put(key: StoredKey): void {
    this.#book.put(key)
  }

  key(id: string): StoredKey | undefined {
    return this.#book.get(id)?.stored
  }

  keys(): readonly StoredKey[] {
    return this.#book.all()
  }

  /**
   * Who it is, if the key is valid now. A token was checked by the Worker.
   * @param hash SHA-256 of the whole key, hex; '' for a token
   * @param now  Unix milliseconds
   */
  valid(id: string, hash: string, now: number): Caller | undefined {
    if (id === JWT_KEY) return this.#callerOf(JWT_KEY, TOKEN)
    const key = this.#book.valid(id, hash, now)
    return key && this.#callerOf(id, key)
  }

  /** Who it was that is known by this id, valid or not. */
  get(id: string): Caller | undefined {
    const key = id === JWT_KEY ? TOKEN : this.#book.get(id)
    return key && this.#callerOf(id, key)
  }

  /** The meters of somebody whose key is no more, too: what he has used is the tenant's. */
  scopesOf(id: string): readonly Scope[] {
    return this.get(id)?.scopes ?? [this.#tenantScope()]
  }

  /** @see KeyBook.heirsOf */
  heirsOf(id: string): readonly StoredKey[] {
    return this.#book.heirsOf(id)
  }

  /** @see KeyBook.lineageOf */
  lineageOf(id: string): string {
    return this.#book.lineageOf(id)
  }

  /** @param now of the clock that the meters go by, Unix milliseconds */
  saved(now: number): SavedMeters {
    const keys: Record<string, SavedMeter> = {}
    for (const [id, meter] of this.#meters) {
      const saved = savedMeter(meter, now)
      if (saved.requests.length + saved.tokens.length > 0 || saved.debt) keys[id] = saved
    }
    return { tenant: savedMeter(this.#tenant, now), keys }
  }

  #callerOf(id: string, key: BookedKey): Caller {
    const known = this.#known.get(id)
    if (known?.key === key) return known.caller
    const caller = this.#newCaller(id, key)
    this.#known.set(id, { key, caller })
    return caller
  }

  #newCaller(id: string, { stored, allowsAddress }: BookedKey): Caller {
    const { rpm, tpm, models, budget } = stored.limits
    const { class: serviceClass, models: tenants, dryRun } = this.#rights.entitlement
    const scopes = [this.#tenantScope()]
    if (rpm !== null || tpm !== null) {
      scopes.push(this.#scope('key', this.#meterOfKey(id), { rpm, tpm }))
    }
    // A dry run keeps nobody from a model that his plan is without.
    const plans = dryRun ? ['*'] : tenants
    const standing: Standing = {
      plan: this.#rights.profile.plan,
      class: serviceClass,
      models: models === null ? plans : commonModels(plans, models),
    }
    const keyAllows = (model: string) => models === null || allowsModel(models, model)
    return { id, allowsAddress, keyAllows, scopes, standing, budget }
  }

  #tenantScope(): Scope {
    return this.#scope('tenant', this.#tenant, this.#rights.entitlement.limits)
  }

  #scope(
    owner: Scope['owner'],
    meter: Meter,
    { rpm, tpm }: { readonly rpm: number | null; readonly tpm: number | null },
  ): Scope {
    // A dry run refuses nothing, so there is no end to what it would owe.
    meter.tokens.limit = this.#rights.entitlement.dryRun ? Infinity : (tpm ?? Infinity)
    return { owner, meter, rpm, tpm }
  }

  #meterOfKey(id: string): Meter {
    const lineage = this.lineageOf(id)
    const meter = this.#meters.get(lineage) ?? meterOf(undefined)
    this.#meters.set(lineage, meter)
    return meter
  }
}

const meterOf = (saved: SavedMeter | undefined): Meter => ({
  requests: new SlidingMinute({ saved: saved?.requests }),
  tokens: new SlidingMinute({ saved: saved?.tokens, debt: saved?.debt }),
})

function savedMeter({ requests, tokens }: Meter, now: number): SavedMeter {
  const saved = { requests: requests.saved(now), tokens: tokens.saved(now) }
  return tokens.debt === 0 ? saved : { ...saved, debt: tokens.debt }
}

/** A token has no limits but its tenant's. */
const TOKEN: BookedKey = {
  allowsAddress: () => true,
  stored: {
    id: JWT_KEY,
    name: null,
    created: 0,
    revoked: null,
    expires: null,
    limits: { rpm: null, tpm: null, models: null, addresses: null, budget: null },
    replaces: null,
    hash: '',
    endRunning: false,
  },
}
