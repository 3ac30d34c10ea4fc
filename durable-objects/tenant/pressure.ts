import type { ServiceClass } from '../pool/contract.ts'

/**
 * Share of its rates that a tenant may use while a pool is pressed, by how hard (0 to 3). The lowest
 * class gives way first; who pays for `interactive` never does.
 */
const STANDARD = [1, 1, 0.75, 0.5] as const
const SHARES: ReadonlyMap<string, readonly number[]> = new Map<ServiceClass, readonly number[]>([
  ['interactive', [1, 1, 1, 1]],
  ['standard', STANDARD],
  ['batch', [1, 0.5, 0.25, 0.1]],
])

/**
 * @param serviceClass one that terms of a later release may name counts as `standard`
 * @returns share of a limit that is in effect, above 0 and at most 1
 */
export function shareUnder(pressure: number, serviceClass: ServiceClass): number {
  const step = Math.min(3, Math.max(0, Math.floor(pressure)))
  return (SHARES.get(serviceClass) ?? STANDARD)[step] ?? 1
}

/** A limit as it is under pressure: a whole number, at least 1 where the limit allows anything at all. */
export const underPressure = (limit: number, share: number): number =>
  share === 1 ? limit : Math.max(Math.min(1, limit), Math.floor(limit * share))
