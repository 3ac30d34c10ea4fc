import { describe, expect, it } from 'vitest'
import { NO_GAUGES, readGauges } from '../../durable-objects/health/vllm-metrics.ts'
import { recorded } from './core-builders.ts'

describe('readGauges', () => {
  it('reads the page of a real server', () => {
    expect(readGauges(recorded('metrics').text)).toEqual({
      running: 0,
      waiting: 0,
      kvUse: 0,
      generationTokens: 867,
      promptTokens: 304,
      iterations: 861,
      kvTokens: 16_384 * 128,
      prefixQueries: 304,
      prefixHits: 0,
      startedAt: 1_795_364_688.09,
    })
  })

  it.each([
    {
      page: 'vllm:num_requests_running{engine="0",model_name="m"} 3.0\nvllm:num_requests_running{engine="1",model_name="m"} 4.0\n',
      said: { running: 7 },
      why: 'two engines add up, and what is not there is null',
    },
    {
      page: 'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.6\nvllm:gpu_cache_usage_perc{engine="0"} 0.9\n',
      said: { kvUse: 0.4 },
      why: 'shares have a mean, and the new name wins',
    },
    {
      page: 'vllm:gpu_cache_usage_perc{engine="0"} 0.9\n',
      said: { kvUse: 0.9 },
      why: 'an old server has the old name',
    },
    {
      page: 'vllm:cache_config_info{block_size="16",effective_attention_block_size="64",engine="0",num_gpu_blocks="100",num_gpu_blocks_override="None"} 1.0\nvllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="50"} 1.0\n',
      said: { kvTokens: 2400 },
      why: 'each engine has a cache of its own',
    },
    {
      page: 'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n',
      said: {},
      why: 'it does not know its cache yet',
    },
    {
      page: 'vllm:num_requests_waiting{engine="0"} 2.0\nvllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0\n',
      said: { waiting: 2 },
      why: 'the same requests by reason are not counted again',
    },
    {
      page: '# HELP vllm:num_requests_running Number of 7\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0',
      said: { running: 1 },
      why: 'comments are no samples, labels and a last line break are not needed',
    },
    {
      page: 'other_vllm:num_requests_running{a="b"} 9.0\n',
      said: {},
      why: 'another series ends in the same name',
    },
    {
      page: 'vllm:num_requests_running{model_name="a b"} 1e1\nvllm:num_requests_waiting{} NaN\n',
      said: { running: 10 },
      why: 'labels may have spaces, and NaN is no number',
    },
    {
      page: 'vllm:iteration_tokens_total_bucket{le="1.0"} 5.0\nvllm:iteration_tokens_total_sum 9.0\nvllm:iteration_tokens_total_count 3.0\nvllm:generation_tokens_created 1.7e9\n',
      said: { iterations: 3 },
      why: "a histogram's count is not its buckets, a counter not its birthday",
    },
    {
      page: '# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.5e+09\nprocess_start_time_seconds_created 3.0\n',
      said: { startedAt: 1_500_000_000 },
      why: 'the process says when it started',
    },
    {
      page: '# HELP x\nprocess_start_time_seconds NaN\n',
      said: {},
      why: 'it does not know when it started',
    },
    { page: '', said: {}, why: 'the page is empty' },
    { page: 'vllm:', said: {}, why: 'the page was cut' },
  ])('gives $said: $why', ({ page, said }) => {
    const read = readGauges(page)
    expect({ ...read, kvUse: read.kvUse && Number(read.kvUse.toFixed(9)) }).toEqual({
      ...NO_GAUGES,
      ...said,
    })
  })
})
