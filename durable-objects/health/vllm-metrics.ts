/**
 * What vLLM says of itself on `/metrics` (V1 engine, Prometheus text, summed over `engine`).
 * Names as of vLLM 0.23 to 0.33, and the older name of the KV cache's use; null where the page does
 * not carry one.
 */
export interface Gauges {
  /** Requests the engine is working on. */
  readonly running: number | null
  /** Requests it has taken but not begun. */
  readonly waiting: number | null
  /** Share of the KV cache in use, 0 to 1, the mean over engines. */
  readonly kvUse: number | null
  /** Tokens generated since the process started. */
  readonly generationTokens: number | null
  /** Tokens of prompts whose prefill is over, since the process started. */
  readonly promptTokens: number | null
  /** Steps of the engine that yielded something, since the process started. */
  readonly iterations: number | null
  /** Tokens that the KV cache has room for. */
  readonly kvTokens: number | null
  /** Tokens looked up in the prefix cache since the process started, and those found there. */
  readonly prefixQueries: number | null
  readonly prefixHits: number | null
  /** When the process started, Unix seconds; null where several of them share one page. */
  readonly startedAt: number | null
}

export const NO_GAUGES: Gauges = {
  running: null,
  waiting: null,
  kvUse: null,
  generationTokens: null,
  promptTokens: null,
  iterations: null,
  kvTokens: null,
  prefixQueries: null,
  prefixHits: null,
  startedAt: null,
}

/** Every series of the engine begins like this. */
const OURS = 'vllm:'

/** Series that are added up over their samples, by the name after {@link OURS}. */
const SERIES: ReadonlyMap<string, Summed> = new Map([
  ['num_requests_running', 'running'],
  ['num_requests_waiting', 'waiting'],
  ['kv_cache_usage_perc', 'kvUse'],
  ['gpu_cache_usage_perc', 'oldKvUse'],
  ['generation_tokens_total', 'generationTokens'],
  ['prompt_tokens_total', 'promptTokens'],
  ['iteration_tokens_total_count', 'iterations'],
  ['prefix_cache_queries_total', 'prefixQueries'],
  ['prefix_cache_hits_total', 'prefixHits'],
])
type Summed = Exclude<keyof Gauges, 'kvTokens' | 'startedAt'> | 'oldKvUse'

const CACHE_CONFIG = 'cache_config_info'
/** Python's own, without labels. */
const START_TIME = '\nprocess_start_time_seconds '

class Sum {
  total = 0
  samples = 0

  add(value: number): void {
    if (!Number.isFinite(value)) return
    this.total += value
    this.samples++
  }

  get value(): number | null {
    return this.samples === 0 ? null : this.total
  }

  get mean(): number | null {
    return this.samples === 0 ? null : this.total / this.samples
  }
}

/**
 * The few figures the pool needs. One pass over the page, which has thousands of lines: only the
 * name of each is looked at, and lines with another's name make no object.
 */
export function readGauges(page: string): Gauges {
  const sums = new Map<Summed, Sum>()
  const room = new Sum()
  for (let at = startOf(page, 0); at !== -1; at = startOf(page, at)) {
    const name = nameAt(page, at)
    at += name.length
    const series = SERIES.get(name)
    if (series !== undefined) sumIn(sums, series).add(valueOf(lineFrom(page, at)))
    else if (name === CACHE_CONFIG) room.add(cacheTokens(lineFrom(page, at)))
  }
  const valueIn = (series: Summed): number | null => sums.get(series)?.value ?? null
  return {
    running: valueIn('running'),
    waiting: valueIn('waiting'),
    kvUse: sums.get('kvUse')?.mean ?? sums.get('oldKvUse')?.mean ?? null,
    generationTokens: valueIn('generationTokens'),
    promptTokens: valueIn('promptTokens'),
    iterations: valueIn('iterations'),
    kvTokens: room.value,
    prefixQueries: valueIn('prefixQueries'),
    prefixHits: valueIn('prefixHits'),
    startedAt: startOfProcess(page),
  }
}

function startOfProcess(page: string): number | null {
  const at = page.indexOf(START_TIME)
  if (at === -1) return null
  const seconds = valueOf(lineFrom(page, at + 1))
  return Number.isFinite(seconds) ? seconds : null
}

/** Where the name of the next sample of ours begins, after the prefix; -1 when there is none. */
function startOf(page: string, from: number): number {
  if (from === 0 && page.startsWith(OURS)) return OURS.length
  const at = page.indexOf(`\n${OURS}`, from)
  return at === -1 ? -1 : at + 1 + OURS.length
}

function nameAt(page: string, at: number): string {
  let end = at
  for (let code = page.charCodeAt(end); code > 0x20 && code !== 0x7b; code = page.charCodeAt(end))
    end++
  return page.slice(at, end)
}

function lineFrom(page: string, at: number): string {
  const end = page.indexOf('\n', at)
  return page.slice(at, end === -1 ? undefined : end)
}

const valueOf = (line: string): number => Number(line.slice(line.lastIndexOf(' ') + 1))

/** Labels whose names end alike (`effective_attention_block_size`) are other ones. NaN without both. */
function cacheTokens(line: string): number {
  const blocks = /[{,]num_gpu_blocks="(\d+)"/.exec(line)?.[1]
  const size = /[{,]block_size="(\d+)"/.exec(line)?.[1]
  return Number(blocks) * Number(size)
}

function sumIn(sums: Map<Summed, Sum>, series: Summed): Sum {
  const known = sums.get(series)
  if (known) return known
  const sum = new Sum()
  sums.set(series, sum)
  return sum
}
