/** Requests to the books of a pool: what they ask, what they are granted, how they wait. */
import type { InstanceConfig, PolicyName } from '../../durable-objects/fleet/snapshot.ts'
import type { Demand, Work } from '../../durable-objects/pool/contract.ts'
import type { Decision, GrantedSeat, Pending } from '../../durable-objects/pool/dispatcher.ts'
import { HASH_BYTES } from '../../durable-objects/scheduling/blocks.ts'
import { Books, type Said } from './core-books.ts'
import { demand, instance, settled } from './core-builders.ts'

export const QUEUE = { max: 8, waitMs: 10_000 }

/** Books over instances of one slot each. */
export function booksOf(
  ids: readonly string[],
  { policy = 'least_inflight', vitals = {}, named = {}, queue = QUEUE }: Partial<Setting> = {},
) {
  const books = new Books(vitals)
  const of = (id: string): InstanceConfig => instance({ instance: id, slots: 1, ...named })
  const configure = (now: readonly string[]): void =>
    books.configure(now.map(of), policy, { queue })
  configure(ids)
  return { books, configure }
}
interface Setting {
  readonly policy: PolicyName
  readonly vitals: Partial<Said>
  readonly named: Partial<InstanceConfig>
  readonly queue: { readonly max: number; readonly waitMs: number }
}

export const work = (named: Partial<Work> = {}): Work => ({
  tenant: 'acme',
  class: 'standard',
  session: 'acme',
  address: '',
  place: null,
  promptTokens: 100,
  outputTokens: null,
  prefix: new Uint8Array(),
  ...named,
})

export function granted(books: Books, named: Partial<Demand> = {}): GrantedSeat {
  const decision = books.acquire(demand(named))
  if (decision.kind !== 'granted') throw new Error(decision.kind)
  return decision
}

export const idOf = ({ seat }: GrantedSeat): string => seat.config.instance

/** One who waits, and what he is told in the end. */
export interface Waiter extends Pending {
  told: Decision | null
}

export function waiting(
  books: Books,
  named: Partial<Work> = {},
  asked: Partial<Demand> = {},
): Waiter {
  const decision = books.acquire(demand({ mayQueue: true, work: work(named), ...asked }))
  if (decision.kind !== 'queued') throw new Error(decision.kind)
  return waiterOf(decision)
}

export function waiterOf(pending: Pending): Waiter {
  const waiter: Waiter = { ...pending, told: null }
  void pending.decision.then((told) => (waiter.told = told))
  return waiter
}

export async function toldTo(...waiters: readonly Waiter[]): Promise<(string | null)[]> {
  await settled()
  return waiters.map(({ told }) => told && told.kind)
}

/** Hashes of a prompt of so many blocks; the same name, the same prompt. */
export function prefixOf(name: number, blocks = 8): Uint8Array {
  return new Uint8Array(blocks * HASH_BYTES).map((_, i) => (name * 31 + i * 7 + 1) % 251)
}
