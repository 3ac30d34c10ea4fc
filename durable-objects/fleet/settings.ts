/** What `defaults` and each pool may set, and what holds where neither says anything. */
import { z } from 'zod'
import { parseMediaDomain } from './address.ts'
import { Duration, Size, readAs } from './fields.ts'
import { SCHEDULING_BUILT_IN, choiceOf, schedulingShape } from './scheduling-settings.ts'
import type { PoolConfig } from './snapshot.ts'

const LARGEST_BODY = 64 * 1024 ** 2
const BodySize = Size.refine(
  (bytes) => bytes <= LARGEST_BODY,
  'must be at most 64MiB: the Worker keeps the body for retries, in 128 MB of memory',
)

/** What stands between a tenant and the edge gives a silent request up after about this long. */
export const TENANT_PATIENCE_MS = 100_000

/** Every field is optional here: a pool's own value, then the file's `defaults`, then {@link BUILT_IN}. */
export const settingsShape = {
  ...schedulingShape,
  health: z
    .strictObject({
      every: Duration.optional().describe('Time between two readings. Default 5s.'),
      timeout: Duration.optional().describe('Longest wait for one reading. Default 2s.'),
      down_after: z
        .int()
        .min(1)
        .max(100)
        .optional()
        .describe('Failed readings in a row until down. Default 3.'),
      up_after: z
        .int()
        .min(1)
        .max(100)
        .optional()
        .describe('Good readings in a row until ready again. Default 2.'),
    })
    .optional()
    .describe("How each instance's health is read."),
  timeouts: z
    .strictObject({
      first_byte: Duration.optional().describe(
        'From sending the request to the first data frame. Default 90s.',
      ),
      idle: Duration.optional().describe(
        'Between two data frames; comments do not count. Default 60s.',
      ),
      total: Duration.optional().describe(
        'The whole request, every attempt included. Default 30m.',
      ),
    })
    .optional()
    .describe('How long a request may take.'),
  early_commit: Duration.refine(
    (ms) => ms <= TENANT_PATIENCE_MS,
    "must be at most 100s: after that, proxies on a tenant's way give a silent request up",
  )
    .optional()
    .describe(
      'From the grant of a slot until a streaming tenant gets a status and keep-alive comments, should there be no content yet. Default 15s.',
    ),
  retry: z
    .strictObject({
      attempts: z
        .int()
        .min(1)
        .max(10)
        .optional()
        .describe('Instances tried, the first included. Default 2.'),
    })
    .optional()
    .describe('What happens when an instance fails before the first content.'),
  limits: z
    .strictObject({
      body: BodySize.optional().describe('Largest request body. Default 16MiB.'),
      audio: BodySize.optional().describe(
        'Largest request body with an audio file. Default 26MiB.',
      ),
      n: z
        .int()
        .min(1)
        .max(1024)
        .optional()
        .describe('Most answers to one request: `n` and `best_of`. Default 8.'),
      output_tokens: z
        .int()
        .min(1)
        .max(100_000_000)
        .optional()
        .describe('Most output tokens that one request may ask for. Default 8192.'),
    })
    .optional()
    .describe('What a request may ask.'),
  media: z
    .strictObject({
      domains: z
        .array(readAs(parseMediaDomain))
        .optional()
        .describe(
          'Hosts that image, audio and video URLs may name, data URLs aside: media.example.com, *.example.com. Default none.',
        ),
      image_tokens: z
        .int()
        .min(0)
        .max(1_000_000)
        .optional()
        .describe(
          'Tokens that this model makes of a picture, for counting load: its bytes say nothing of that. Default 1000.',
        ),
      audio_tokens_per_second: z
        .number()
        .min(0)
        .max(10_000)
        .optional()
        .describe(
          'Tokens that this model makes of a second of sound, for counting load. Default 50.',
        ),
    })
    .optional()
    .describe('Pictures and sound in requests: from where, and how much work they are.'),
  reasoning_field: z
    .enum(['both', 'reasoning'])
    .optional()
    .describe(
      'Whether what vLLM calls `reasoning` is sent under that name alone, or also as `reasoning_content`, which many clients read. Default both.',
    ),
}

const Settings = z.strictObject(settingsShape)
type SettingsSpec = z.output<typeof Settings>

type Whole<T> = { readonly [K in keyof T]-?: Whole<NonNullable<T[K]>> }
/** All settings of one pool, in milliseconds and bytes; `scorers` is null where a policy decides. */
export type PoolSettings = Whole<Omit<SettingsSpec, 'scorers'>> &
  Pick<PoolConfig, 'policy'> &
  Required<Pick<PoolConfig, 'scorers'>>

/** What holds where the file says nothing. */
export const BUILT_IN = {
  ...SCHEDULING_BUILT_IN,
  health: { every: 5000, timeout: 2000, down_after: 3, up_after: 2 },
  timeouts: { first_byte: 90_000, idle: 60_000, total: 1_800_000 },
  early_commit: 15_000,
  retry: { attempts: 2 },
  limits: { body: 16 * 1024 ** 2, audio: 26 * 1024 ** 2, n: 8, output_tokens: 8192 },
  media: { domains: [], image_tokens: 1000, audio_tokens_per_second: 50 },
  reasoning_field: 'both',
} as const satisfies PoolSettings

/** Lays a pool's own settings over the file's defaults over the built-in ones, field by field. */
export function poolSettings(pool: SettingsSpec, defaults: SettingsSpec): PoolSettings {
  return {
    ...choiceOf(pool, defaults),
    breaker: { ...BUILT_IN.breaker, ...defaults.breaker, ...pool.breaker },
    queue: { ...BUILT_IN.queue, ...defaults.queue, ...pool.queue },
    slow_start: pool.slow_start ?? defaults.slow_start ?? BUILT_IN.slow_start,
    health: { ...BUILT_IN.health, ...defaults.health, ...pool.health },
    timeouts: { ...BUILT_IN.timeouts, ...defaults.timeouts, ...pool.timeouts },
    early_commit: pool.early_commit ?? defaults.early_commit ?? BUILT_IN.early_commit,
    retry: { ...BUILT_IN.retry, ...defaults.retry, ...pool.retry },
    limits: { ...BUILT_IN.limits, ...defaults.limits, ...pool.limits },
    media: { ...BUILT_IN.media, ...defaults.media, ...pool.media },
    reasoning_field: pool.reasoning_field ?? defaults.reasoning_field ?? BUILT_IN.reasoning_field,
  } as PoolSettings
}
