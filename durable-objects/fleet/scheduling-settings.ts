/**
 * What `defaults` and each pool may say of choosing among instances: by what, when one that fails is left
 * out, who may wait for a slot, and how gently one comes back.
 */
import { z } from 'zod'
import { Duration, durationWithin, durationOrNone } from './fields.ts'
import type { PolicyName, ScorerName } from './snapshot.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

/** Each name once, so that the compiler finds one that is missing here or there. */
const POLICIES = {
  round_robin: 'round_robin',
  weighted: 'weighted',
  random: 'random',
  p2c: 'p2c',
  least_inflight: 'least_inflight',
  ip_hash: 'ip_hash',
  user_hash: 'user_hash',
  prefix: 'prefix',
  tokens: 'tokens',
  gpu: 'gpu',
  latency: 'latency',
  locality: 'locality',
  adaptive: 'adaptive',
} as const satisfies { readonly [name in PolicyName]: name }

const scorerWeight = (what: string) =>
  z.number().min(0).max(100).optional().describe(`Weight of ${what}. Default 0: not looked at.`)

const scorersShape = {
  inflight: scorerWeight('how few requests are in flight'),
  prefix: scorerWeight('how much of the prompt its KV cache probably holds'),
  tokens: scorerWeight('how few tokens are still to be read and written'),
  gpu: scorerWeight("vLLM's own gauges: waiting, running, KV-cache use"),
  latency: scorerWeight('how soon an answer would begin, at the pace measured so far'),
  locality: scorerWeight("how near the site is to the tenant's data centre"),
  errors: scorerWeight('how few recent requests failed'),
} satisfies Readonly<Record<ScorerName, z.ZodType>>

const scorers = z
  .strictObject(scorersShape)
  .optional()
  .describe(
    "What speaks for an instance, with weights of the pool's own in place of a policy. Default none: the policy decides.",
  )

const breaker = z
  .strictObject({
    window: durationWithin(100, HOUR)
      .optional()
      .describe('Requests that ended longer ago count no more. Default 30s.'),
    min_requests: z
      .int()
      .min(1)
      .max(10_000)
      .optional()
      .describe('Requests within the window before their error ratio means anything. Default 10.'),
    error_ratio: z
      .number()
      .min(0.01)
      .max(1)
      .optional()
      .describe('Share of failed requests within the window that opens it. Default 0.5.'),
    consecutive: z
      .int()
      .min(1)
      .max(1000)
      .optional()
      .describe('Failures in a row that open it, however few requests there were. Default 5.'),
    open: durationWithin(100, HOUR)
      .optional()
      .describe(
        'How long it stays open the first time; each further time twice as long. Default 10s.',
      ),
    open_max: Duration.optional().describe('The longest it stays open at a stretch. Default 5m.'),
    half_open: z
      .int()
      .min(1)
      .max(100)
      .optional()
      .describe('Requests let through after that; all must succeed to close it. Default 3.'),
    max_ejected: z
      .number()
      .min(0)
      .max(1)
      .optional()
      .describe(
        'Largest share of a pool that breakers may take out at once; 0: they take out none. Default 0.5.',
      ),
  })
  .optional()
  .describe('When an instance whose requests fail is taken out, and for how long.')

const queue = z
  .strictObject({
    max: z
      .int()
      .min(0)
      .max(10_000)
      .optional()
      .describe('Most requests that wait at once; 0: nobody waits. Default 64.'),
    wait: Duration.optional().describe('Longest wait for a slot. Default 10s.'),
  })
  .optional()
  .describe('Where requests wait when no instance of the pool has a free slot.')

export const schedulingShape = {
  policy: z
    .enum(POLICIES)
    .optional()
    .describe('By what an instance is chosen; docs/fleet.md explains each. Default adaptive.'),
  scorers,
  breaker,
  queue,
  slow_start: durationOrNone(HOUR)
    .optional()
    .describe(
      'Time over which the share of an instance that has come back grows to the whole; 0s: at once. Default 30s.',
    ),
}

/** What holds where the file says nothing. */
export const SCHEDULING_BUILT_IN = {
  policy: 'adaptive',
  scorers: null,
  breaker: {
    window: 30_000,
    min_requests: 10,
    error_ratio: 0.5,
    consecutive: 5,
    open: 10_000,
    open_max: 300_000,
    half_open: 3,
    max_ejected: 0.5,
  },
  queue: { max: 64, wait: 10_000 },
  slow_start: 30_000,
} as const

type Scorers = Readonly<Partial<Record<ScorerName, number>>>

/** Whoever may say how instances are chosen: a pool, or the defaults. */
interface Chooser {
  readonly policy?: PolicyName | undefined
  readonly scorers?: { readonly [name in ScorerName]?: number | undefined } | undefined
}

/**
 * By what a pool chooses: what the pool says, else what the defaults say, each as a whole, since a policy
 * and weights of one's own exclude each other. Weights of 0 are left out.
 */
export function choiceOf(
  pool: Chooser,
  defaults: Chooser,
): { readonly policy: PolicyName; readonly scorers: Scorers | null } {
  const own = [pool, defaults].find(
    ({ policy, scorers: weights }) => policy !== undefined || weights !== undefined,
  )
  const { policy, scorers: none } = SCHEDULING_BUILT_IN
  if (own?.scorers === undefined) return { policy: own?.policy ?? policy, scorers: none }
  const weighed = Object.entries(own.scorers).filter(([, weight]) => weight !== 0)
  return { policy, scorers: Object.fromEntries(weighed) as Scorers }
}
