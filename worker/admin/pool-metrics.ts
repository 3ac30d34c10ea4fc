import type { InstanceStatus, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { counter, gauge, type Metric, type Sample } from './exposition.ts'

/** The metrics of all pools. Pure, so that the names and labels can be held to a page. */
export function metricsOf(pools: readonly PoolStatus[]): Metric[] {
  const ofPool = (read: (pool: PoolStatus) => number | null | undefined): Sample[] =>
    pools.map((pool) => [{ pool: pool.pool }, read(pool)])
  const ofEach = (
    read: (pool: PoolStatus) => readonly (readonly [Readonly<Record<string, string>>, number])[],
  ): Sample[] =>
    pools.flatMap((pool) =>
      read(pool).map(([labels, value]): Sample => [{ pool: pool.pool, ...labels }, value]),
    )
  const ofInstance = (read: (instance: InstanceStatus) => number | null | undefined): Sample[] =>
    pools.flatMap(({ pool, instances }) =>
      oneEach(instances).map((instance): Sample => [
        { pool, instance: instance.id },
        read(instance),
      ]),
    )
  return [
    gauge(
      'pool_fleet_version',
      'Fleet version that the pool decides by.',
      ofPool(({ fleet }) => fleet),
    ),
    counter(
      'requests_granted',
      'Slots given.',
      ofPool(({ granted }) => granted),
    ),
    counter(
      'requests_ended',
      'Slots given back, by how the request ended.',
      ofEach(({ ended }) => Object.entries(ended).map(([ending, count]) => [{ ending }, count])),
    ),
    counter(
      'tokens',
      'Tokens of requests that have ended, as counted; estimated ones apart.',
      ofEach(({ tokens }) =>
        Object.entries(tokens ?? {}).map(([kind, count]) => [{ kind }, count]),
      ),
    ),
    counter(
      'arm_requests',
      'Requests of each arm that have ended, of models whose arms are compared. What the tenant left, or was refused, is none.',
      ofEach(({ arms = [] }) =>
        arms.flatMap(({ model, arm, ...outcomes }) =>
          Object.entries(outcomes).map(
            ([outcome, count]) => [{ model, arm, outcome }, count] as const,
          ),
        ),
      ),
    ),
    gauge(
      'pool_pressure',
      "How hard the pool is pressed, 0 (at ease) to 3: batch, then standard tenants' rates shrink with it.",
      ofPool(({ pressure }) => pressure),
    ),
    gauge(
      'pool_tokens_per_second',
      "Prompts' and answers' tokens that the pool does in a second.",
      ofPool(({ tokensPerSecond }) => tokensPerSecond),
    ),
    gauge(
      'queue_length',
      'Requests that wait, by class.',
      ofEach(({ queue }) =>
        Object.entries(queue?.byClass ?? {}).map(([kind, length]) => [{ class: kind }, length]),
      ),
    ),
    gauge(
      'queue_max',
      'Most requests that may wait.',
      ofPool(({ queue }) => queue?.max),
    ),
    counter(
      'queue_joined',
      'Requests that have waited.',
      ofPool(({ queue }) => queue?.joined),
    ),
    counter(
      'queue_refused',
      'Requests that found no place, lost it to a higher class, or waited in vain.',
      ofEach(({ queue }) =>
        queue
          ? [
              [{ reason: 'full' }, queue.full],
              [{ reason: 'shed' }, queue.shed],
              [{ reason: 'expired' }, queue.expired],
            ]
          : [],
      ),
    ),
    gauge(
      'prefix_blocks',
      'Prompt blocks in the prefix index.',
      ofPool(({ prefix }) => prefix?.blocks),
    ),
    counter(
      'prefix_predicted_tokens',
      'Prefix cache hits predicted for all requests.',
      ofPool(({ prefix }) => prefix?.predicted),
    ),
    counter(
      'prefix_compared_tokens',
      'Of requests whose engine told its hits: what was expected, what was hit, and the whole prompts.',
      ofEach(({ prefix }) =>
        prefix
          ? [
              [{ kind: 'expected' }, prefix.expected],
              [{ kind: 'actual' }, prefix.actual],
              [{ kind: 'prompt' }, prefix.prompt],
            ]
          : [],
      ),
    ),
    gauge(
      'path_up',
      'Whether a site can be reached.',
      ofEach(({ paths = [] }) =>
        paths.map(({ site, state }) => [{ site }, state === 'up' ? 1 : 0]),
      ),
    ),
    {
      name: 'penstock_instance_state',
      type: 'gauge',
      help: '1 for the state that the instance is in.',
      samples: pools.flatMap(({ pool, instances }) =>
        oneEach(instances).map(({ id, state }): Sample => [{ pool, instance: id, state }, 1]),
      ),
    },
    gauge(
      'instance_in_flight',
      'Slots in use.',
      ofInstance(({ inFlight }) => inFlight),
    ),
    gauge(
      'instance_slots',
      'Most requests in flight at once.',
      ofInstance(({ slots }) => slots),
    ),
    gauge(
      'instance_running',
      "Requests the engine works on, by vLLM's word.",
      ofInstance(({ running }) => running),
    ),
    gauge(
      'instance_waiting',
      "Requests the engine has not begun, by vLLM's word.",
      ofInstance(({ waiting }) => waiting),
    ),
    gauge(
      'instance_kv_use',
      "Of its KV cache, 0 to 1, by vLLM's word.",
      ofInstance(({ kvUse }) => kvUse),
    ),
    counter(
      'instance_prefix_queried_tokens',
      "Prompt tokens looked up in its prefix cache, by vLLM's word.",
      ofInstance(({ prefixQueries }) => prefixQueries),
    ),
    counter(
      'instance_prefix_hit_tokens',
      "Of these, tokens found there, by vLLM's word.",
      ofInstance(({ prefixHits }) => prefixHits),
    ),
    gauge(
      'instance_error_rate',
      'Share of its recent requests that failed, decaying.',
      ofInstance(({ errorRate }) => errorRate),
    ),
    gauge(
      'instance_ramp',
      'Share of its weight in effect.',
      ofInstance(({ ramp }) => ramp),
    ),
    gauge(
      'instance_breaker_open',
      '1 while its breaker is open, 0.5 while it is half open.',
      ofInstance(({ breaker }) => (breaker === undefined ? null : BREAKER[breaker])),
    ),
    gauge(
      'instance_prompt_tokens_ahead',
      'Prompt tokens that it still has to prefill.',
      ofInstance(({ promptTokensAhead }) => promptTokensAhead),
    ),
    gauge(
      'instance_output_tokens_ahead',
      'Answer tokens that its requests may still have.',
      ofInstance(({ outputTokensAhead }) => outputTokensAhead),
    ),
    gauge(
      'instance_prefill_seconds_per_token',
      'Time to first token for each uncached token ahead, measured.',
      ofInstance(({ prefillMsPerToken }) => seconds(prefillMsPerToken)),
    ),
    gauge(
      'instance_seconds_per_token',
      'Time between two tokens of an answer, measured.',
      ofInstance(({ msPerToken }) => seconds(msPerToken)),
    ),
  ]
}

/** An instance that has moved is listed twice while its old process drains, the fleet's own first. */
const oneEach = (instances: readonly InstanceStatus[]): readonly InstanceStatus[] =>
  instances.filter(({ id }, i) => instances.findIndex((other) => other.id === id) === i)

const BREAKER = { closed: 0, 'half-open': 0.5, open: 1 } as const

const seconds = (ms: number | null | undefined): number | null =>
  typeof ms === 'number' ? ms / 1_000 : null
