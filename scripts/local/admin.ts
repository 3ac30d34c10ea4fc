import type { PoolStatus } from '../../durable-objects/pool/contract.ts'

export interface KeyRefusal {
  readonly code?: string
  readonly message?: string
}

/** The part of the admin API that a local run and the tests use. */
export interface Admin {
  applyFleet(yaml: string): Promise<void>
  /** @param plan of the fleet; without one the tenant has no limits */
  createTenant(id: string, plan?: string): Promise<void>
  /** Returns the key; the only time it is seen. */
  createKey(tenant: string, name: string): Promise<string>
  /** Why the router refuses a tenant's key; null where it takes it. */
  refusal(apiKey: string): Promise<KeyRefusal | null>
  pools(): Promise<readonly PoolStatus[]>
}

/** @param url base URL of the router, without a slash at the end */
export function adminOf(url: string, token: string): Admin {
  const call = async (method: string, path: string, body?: string, type?: string) =>
    fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(type && { 'content-type': type }),
      },
      ...(body !== undefined && { body }),
    })
  const post = (path: string, body: object) =>
    call('POST', path, JSON.stringify(body), 'application/json')
  const json = async <T>(response: Response, what: string): Promise<T> => {
    if (!response.ok) throw new Error(`${what}: ${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }
  return {
    async applyFleet(yaml) {
      await json(await call('PUT', '/admin/fleet', yaml, 'application/yaml'), 'apply the fleet')
    },
    async createTenant(id, plan) {
      const response = await post('/admin/tenants', { id, ...(plan !== undefined && { plan }) })
      if (response.status === 409) return void (await response.text())
      await json(response, `create tenant ${id}`)
    },
    async createKey(tenant, name) {
      const response = await post(`/admin/tenants/${tenant}/keys`, { name })
      return (await json<{ key: string }>(response, `create a key for ${tenant}`)).key
    },
    async refusal(apiKey) {
      const headers = { authorization: `Bearer ${apiKey}` }
      const response = await fetch(`${url}/v1/models`, { headers })
      const { error = {} } = (await response.json()) as { readonly error?: KeyRefusal }
      return response.ok ? null : error
    },
    async pools() {
      const answer = await json<{ pools: readonly PoolStatus[] }>(
        await call('GET', '/admin/pools'),
        'read the pools',
      )
      return answer.pools
    },
  }
}

/** Pools in which no instance is ready, each with the reasons of its instances. */
export const notReady = (pools: readonly PoolStatus[]): readonly string[] =>
  pools
    .filter(({ instances }) => !instances.some(({ state }) => state === 'ready'))
    .map(({ pool, instances }) => {
      const why = instances.map(({ id, state, reason }) => `${id} ${state}: ${reason}`)
      return `${pool}: ${why.join('; ')}`
    })

/**
 * Waits until every pool has a ready instance.
 *
 * @returns what is still missing after `limitMs`, one sentence a pool; empty when all are ready
 */
export async function untilReady(
  read: () => Promise<readonly PoolStatus[]>,
  limitMs: number,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const end = Date.now() + limitMs
  for (;;) {
    const missing = notReady(await read())
    if (missing.length === 0 || Date.now() >= end || signal?.aborted) return missing
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
