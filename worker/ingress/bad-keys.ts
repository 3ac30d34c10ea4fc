import ipaddr from 'ipaddr.js'
import { Refusal } from '../refusal.ts'

/** Whoever has one IPv6 address has these 64 bits' worth of them. */
const NETWORK_BYTES = 8

/** Counts by name, and says whether that was one too many. */
export interface Counter {
  limit(of: { readonly key: string }): Promise<{ readonly success: boolean }>
}

/**
 * Counts a bad key by the address it came from, where the platform has a counter for it.
 * @param address '' where it is not known
 * @throws Refusal `rate_limit_exceeded`
 */
export async function countBadKey(counter: Counter | undefined, address: string): Promise<void> {
  if (address === '' || !counter) return
  // A counter that fails must not make a 500 of a 401.
  const counted = await counter.limit({ key: networkOf(address) }).catch(() => null)
  if (counted?.success !== false) return
  throw new Refusal('rate_limit_exceeded', 'Too many bad keys from your address. Wait a minute.', {
    headers: { 'retry-after': '60' },
  })
}

/** An IPv4 address, or the first half of an IPv6 one. */
export function networkOf(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address
  const { parts } = ipaddr.IPv6.parse(address)
  return parts
    .slice(0, NETWORK_BYTES / 2)
    .map((part) => part.toString(16))
    .join(':')
}
