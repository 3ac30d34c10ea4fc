/** The RPC contract of a tenant's object, one per tenant (`docs/contract.md`). */

/** What a Worker asks before it serves a request. The key itself never leaves the Worker. */
export interface Admission {
  readonly contract: number
  readonly keyId: string
  /** SHA-256 of the whole key, hex. */
  readonly keyHash: string
}

export type Admitted =
  | { readonly kind: 'admitted' }
  /** No such tenant or key, another secret, or revoked: which of them is nobody's business. */
  | { readonly kind: 'refused'; readonly code: 'invalid_api_key' }

export interface KeyEntry {
  readonly id: string
  readonly name: string | null
  /** Unix milliseconds. */
  readonly created: number
  readonly revoked: number | null
}

export type CreatedKey =
  /** The only time the key is seen: its hash is what is kept. */
  | { readonly kind: 'created'; readonly key: string; readonly entry: KeyEntry }
  | { readonly kind: 'no-tenant' }

export interface TenantRpc {
  /** Creates the tenant; null when it exists already. */
  create(id: string): Promise<{ readonly id: string; readonly created: number } | null>
  admit(admission: Admission): Promise<Admitted>
  createKey(name: string | null): Promise<CreatedKey>
  keys(): Promise<readonly KeyEntry[] | null>
  /** Works at once; null when there is no such key. Revoking twice keeps the first time. */
  revokeKey(id: string): Promise<KeyEntry | null>
}
