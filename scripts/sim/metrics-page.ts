/** The text of `/metrics`: every name, label and bucket of a vLLM server's page. */
import type { Engine } from './engine.ts'
import type { Histogram } from './engine-stats.ts'
import { pythonFloat, Page, type Labels } from './exposition.ts'
import type { HttpStats } from './http-stats.ts'
import { BLOCK_TOKENS } from './kv-cache.ts'

export interface MetricsInput {
  readonly engine: Engine
  /** Simulated milliseconds. */
  readonly now: number
  readonly http: HttpStats
  readonly model: string
  /** Unix milliseconds. */
  readonly startedAt: number
}

/** Writes the page as of now. */
export function metricsPage(input: MetricsInput): string {
  const page = new Page(input.startedAt / 1000)
  processPart(page, input)
  enginePart(page, input)
  requestPart(page, input)
  page.gauge('vllm:cache_config_info', [[cacheConfig(input.engine), 1]])
  httpPart(page, input.http)
  return page.text
}

function processPart(page: Page, { startedAt }: MetricsInput): void {
  const generations = ['0', '1', '2'].map((generation): [Labels, number] => [{ generation }, 0])
  page.counterOnly('python_gc_objects_collected_total', generations)
  page.counterOnly('python_gc_objects_uncollectable_total', generations)
  page.counterOnly('python_gc_collections_total', generations)
  const python = { implementation: 'CPython', major: '3', minor: '12', patchlevel: '1' }
  page.gauge('python_info', [[{ ...python, version: '3.12.1' }, 1]])
  const { rss, heapTotal } = process.memoryUsage()
  page.gauge('process_virtual_memory_bytes', [[{}, rss + heapTotal]])
  page.gauge('process_resident_memory_bytes', [[{}, rss]])
  page.gauge('process_start_time_seconds', [[{}, startedAt / 1000]])
  page.counterOnly('process_cpu_seconds_total', [[{}, process.cpuUsage().user / 1e6]])
  page.gauge('process_open_fds', [[{}, 35]])
  page.gauge('process_max_fds', [[{}, 20_000]])
}

function enginePart(page: Page, { engine, model, now }: MetricsInput): void {
  const { stats } = engine
  const own: Labels = { engine: '0', model_name: model }
  const by = (label: string, values: Readonly<Record<string, number>>): [Labels, number][] =>
    Object.entries(values).map(([value, count]) => [sorted({ ...own, [label]: value }), count])

  page.counter('vllm:estimated_flops_per_gpu', [[own, 0]])
  page.counter('vllm:estimated_read_bytes_per_gpu', [[own, 0]])
  page.counter('vllm:estimated_write_bytes_per_gpu', [[own, 0]])
  page.gauge('vllm:num_requests_running', [[own, engine.running]])
  page.gauge('vllm:num_requests_waiting', [[own, engine.waiting]])
  const reasons = by('reason', { capacity: engine.waiting, deferred: 0 })
  page.gauge('vllm:num_requests_waiting_by_reason', reasons)
  const sleep = { awake: 1, weights_offloaded: 0, discard_all: 0 }
  page.gauge('vllm:engine_sleep_state', by('sleep_state', sleep))
  page.gauge('vllm:kv_cache_usage_perc', [[own, engine.kvUsageAt(now)]])
  page.counter('vllm:prefix_cache_queries', [[own, stats.prefixQueries]])
  page.counter('vllm:prefix_cache_hits', [[own, stats.prefixHits]])
  page.counter('vllm:external_prefix_cache_queries', [[own, 0]])
  page.counter('vllm:external_prefix_cache_hits', [[own, 0]])
  page.counter('vllm:mm_cache_queries', [[own, 0]])
  page.counter('vllm:mm_cache_hits', [[own, 0]])
  page.counter('vllm:num_preemptions', [[own, 0]])
  page.counter('vllm:prompt_tokens', [[own, stats.promptTokens]])
  const computed = stats.promptTokens - stats.cachedTokens
  const sources = { local_compute: computed, local_cache_hit: stats.cachedTokens }
  const prompt = by('source', { ...sources, external_kv_transfer: 0 })
  page.counter('vllm:prompt_tokens_by_source', prompt)
  page.counter('vllm:prompt_tokens_cached', [[own, stats.cachedTokens]])
  const tiers = { device: stats.cachedTokens, host: 0, p2p: 0, disk: 0, external_unspecified: 0 }
  page.counter('vllm:prompt_tokens_cached_by_source', by('source', tiers))
  page.counter('vllm:generation_tokens', [[own, stats.generationTokens]])
  page.counter('vllm:request_success', by('finished_reason', stats.finished))
  const rejections = ['max_num_queued_reqs', 'max_num_queued_tokens']
  page.counter(
    'vllm:admission_rejections',
    rejections.map((reason): [Labels, number] => [{ model_name: model, reason }, 0]),
  )
}

function requestPart(page: Page, { engine, model }: MetricsInput): void {
  const { stats } = engine
  const own: Labels = { engine: '0', model_name: model }
  const histograms: readonly (readonly [string, Histogram])[] = [
    ['request_prompt_tokens', stats.requestPromptTokens],
    ['request_generation_tokens', stats.requestGenerationTokens],
    ['iteration_tokens_total', stats.iterationTokens],
    ['request_max_num_generation_tokens', stats.maxGenerationTokens],
    ['request_params_n', stats.paramsN],
    ['request_params_max_tokens', stats.paramsMaxTokens],
    ['time_to_first_token_seconds', stats.ttft],
    ['inter_token_latency_seconds', stats.interToken],
    ['request_time_per_output_token_seconds', stats.timePerOutputToken],
    ['e2e_request_latency_seconds', stats.e2e],
    ['request_queue_time_seconds', stats.queueTime],
    ['request_inference_time_seconds', stats.inferenceTime],
    ['request_prefill_time_seconds', stats.prefillTime],
    ['request_decode_time_seconds', stats.decodeTime],
    ['request_num_preemptions', stats.preemptions],
    ['request_prefill_kv_computed_tokens', stats.prefillComputed],
  ]
  for (const [name, histogram] of histograms) page.histogram(`vllm:${name}`, [[own, histogram]])
}

const cacheConfig = ({ kv }: Engine): Labels => ({
  _block_size_resolved: 'True',
  block_size: String(BLOCK_TOKENS),
  cache_dtype: 'auto',
  cache_hit_alignment_tokens: 'None',
  effective_attention_block_size: String(BLOCK_TOKENS),
  enable_mamba_shared_prefix_checkpoint: 'False',
  enable_prefix_caching: 'True',
  engine: '0',
  gpu_memory_utilization: '0.92',
  hash_block_size: 'None',
  is_attention_free: 'False',
  kv_cache_dtype_skip_layers: '[]',
  kv_cache_layout: 'None',
  kv_cache_max_concurrency: pythonFloat(kv.blocks),
  kv_cache_memory_bytes: '1073741824',
  kv_cache_size_tokens: String(kv.blocks * BLOCK_TOKENS),
  kv_offloading_backend: 'native',
  kv_offloading_size: 'None',
  kv_sharing_fast_prefill: 'False',
  mamba_block_size: 'None',
  mamba_cache_dtype: 'auto',
  mamba_cache_mode: 'none',
  mamba_page_size_padded: 'None',
  mamba_ssm_cache_dtype: 'float32',
  num_cpu_blocks: 'None',
  num_gpu_blocks: String(kv.blocks),
  num_gpu_blocks_override: 'None',
  prefix_cache_retention_interval: '0',
  prefix_caching_hash_algo: 'sha256',
  prefix_match_unit: 'None',
  replayssm_buffer_len: '16',
  skip_page_size_padded: 'None',
  sliding_window: 'None',
  swa_bounded_replay: 'True',
  use_kda_recoverssm: 'False',
  use_replayssm: 'False',
  user_specified_block_size: 'False',
})

/** Labels in the order of their names, as the Python client writes them. */
const sorted = (labels: Labels): Labels =>
  Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))

function httpPart(page: Page, http: HttpStats): void {
  const requests = [...http.requests].map(([key, count]): [Labels, number] => {
    const [handler = '', method = '', status = ''] = key.split('|')
    return [{ handler, method, status }, count]
  })
  page.counter('http_requests', requests)
  const sizes = [...http.sizes]
  page.summary(
    'http_request_size_bytes',
    sizes.map(([handler, size]) => [{ handler }, size.count, size.requestBytes]),
  )
  page.summary(
    'http_response_size_bytes',
    sizes.map(([handler, size]) => [{ handler }, size.count, size.responseBytes]),
  )
  page.histogram('http_request_duration_highr_seconds', [[{}, http.all]])
  const durations = [...http.durations].map(([key, histogram]): [Labels, Histogram] => {
    const [handler = '', method = ''] = key.split('|')
    return [{ handler, method }, histogram]
  })
  page.histogram('http_request_duration_seconds', durations)
}
