/** Where a returning instance begins: enough to be measured, too little to be drowned. */
const FIRST_SHARE = 0.1

/**
 * Share of its weight that a returning instance gets: its caches are cold and its kernels may have to
 * be compiled, so it starts with a tenth and grows evenly (as Nginx's `slow_start` and Envoy's slow
 * start mode do).
 *
 * @param now         Unix milliseconds
 * @param since       when it came back, Unix milliseconds
 * @param slowStartMs time until its whole share; 0: at once
 * @returns           0.1 to 1; 1 when the clock was put back behind `since`, so that nobody waits for it
 */
export function ramp(now: number, since: number, slowStartMs: number): number {
  const elapsed = now - since
  if (elapsed < 0 || elapsed >= slowStartMs) return 1
  return FIRST_SHARE + (1 - FIRST_SHARE) * (elapsed / slowStartMs)
}
