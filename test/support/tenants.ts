/** Tenants and keys by the operators' API, as an operator makes them. */
import type { KeyLimits, Overrides, TenantEntry } from '../../durable-objects/tenant/contract.ts'
import type { UsageRow } from '../../durable-objects/tenant/contract.ts'
import { eventually } from './e2e-wait.ts'
import type { Stack } from './stack.ts'

interface Settings {
  readonly plan?: string | null
  readonly overrides?: Overrides
  readonly budget?: { readonly monthly: number; readonly stop?: boolean }
}

interface Change extends Settings {
  readonly suspended?: boolean
  /** Running requests of a tenant that is suspended end. */
  readonly now?: boolean
}

type KeySettings = Partial<Omit<KeyLimits, 'budget'>> & {
  /** Unix milliseconds. */
  readonly expires?: number
  readonly budget?: Settings['budget']
}

export interface Tenants {
  /** Makes a tenant with one key, and returns that. */
  create(id: string, settings?: Settings): Promise<string>
  show(id: string): Promise<TenantEntry>
  set(id: string, change: Change): Promise<void>
  createKey(id: string, settings?: KeySettings): Promise<string>
  /** @param grace how long the old key goes on, e.g. `1s` */
  rotateKey(id: string, key: string, grace: string): Promise<string>
  /** `now`: what runs by it ends. */
  revokeKey(id: string, key: string, options?: { readonly now: boolean }): Promise<void>
  /** Of this month. */
  usage(id: string, by?: 'day' | 'month'): Promise<readonly UsageRow[]>
  /** Waits until no request of it runs. */
  idle(id: string, withinMs?: number): Promise<void>
}

/** The part of a key that names it: `psk_<tenant>_<id>_…`. */
export const keyIdOf = (key: string): string => key.split('_')[2] ?? ''

export function tenantsOf({ url, adminToken }: Pick<Stack, 'url' | 'adminToken'>): Tenants {
  const call = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const answer = await fetch(`${url}/admin/tenants${path}`, {
      method,
      headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    const said = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${said}`)
    return JSON.parse(said) as T
  }
  const createKey: Tenants['createKey'] = async (id, settings = {}) =>
    (await call<{ key: string }>('POST', `/${id}/keys`, settings)).key
  const show: Tenants['show'] = (id) => call('GET', `/${id}`)
  return {
    async create(id, settings = {}) {
      await call('POST', '', { id, ...settings })
      return createKey(id)
    },
    show,
    set: (id, change) => call('PATCH', `/${id}`, change),
    createKey,
    rotateKey: async (id, key, grace) =>
      (await call<{ key: string }>('POST', `/${id}/keys/${keyIdOf(key)}/rotate`, { grace })).key,
    revokeKey: (id, key, { now } = { now: false }) =>
      call('DELETE', `/${id}/keys/${keyIdOf(key)}?now=${now}`),
    usage: async (id, by = 'day') =>
      (await call<{ data: UsageRow[] }>('GET', `/${id}/usage?by=${by}`)).data,
    async idle(id, withinMs = 5_000) {
      await eventually(
        () => show(id),
        ({ running }) => running === 0,
        withinMs,
      )
    },
  }
}
