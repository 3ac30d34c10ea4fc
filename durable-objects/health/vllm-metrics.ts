/**
 * What vLLM says of itself on `/metrics` (V1 engine, Prometheus text, summed over `engine`).
 * Names as of vLLM 0.23 to 0.33; null where the page does not carry one.
 */
export interface Gauges {
  /** Requests the engine is working on. */
  readonly running: number | null
  /** Requests it has taken but not begun. */
  readonly waiting: number | null
}

/** The sums of the few series the pool needs. Cheap: one pass over the text, no objects per line. */
export function readGauges(page: string): Gauges {
  return {
    running: sumOf(page, 'vllm:num_requests_running'),
    waiting: sumOf(page, 'vllm:num_requests_waiting'),
  }
}

/** Adds up every sample of one series, whatever its labels; null when there is none. */
function sumOf(page: string, series: string): number | null {
  let sum: number | null = null
  for (let at = page.indexOf(series); at !== -1; at = page.indexOf(series, at + 1)) {
    const after = page[at + series.length]
    const startsLine = at === 0 || page[at - 1] === '\n'
    // `num_requests_waiting_by_reason` starts with the same letters.
    if (!startsLine || (after !== '{' && after !== ' ')) continue
    const lineEnd = page.indexOf('\n', at)
    const line = page.slice(at, lineEnd === -1 ? undefined : lineEnd)
    const value = Number(line.slice(line.lastIndexOf(' ') + 1))
    if (Number.isFinite(value)) sum = (sum ?? 0) + value
  }
  return sum
}
