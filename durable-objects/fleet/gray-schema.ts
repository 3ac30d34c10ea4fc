/** How a model changes hands in `fleet.yaml`: who stays on an arm, what turns one off, who gets copies. */
import { z } from 'zod'
import { durationOrNone, durationWithin } from './fields.ts'
import type { Stickiness } from './snapshot.ts'
import { formatDuration } from './units.ts'

const DAY_MS = 86_400_000
/** What `keep_arm` is where the file says nothing. */
export const KEEP_ARM_MS = 600_000

/** Each name once, so that the compiler finds one that is missing here or there. */
const STICKY = {
  'tenant+user': 'tenant+user',
  tenant: 'tenant',
  session: 'session',
} as const satisfies { readonly [name in Stickiness]: name }

/** A threshold, or the word for none; read as null then. */
const orOff = (threshold: z.ZodNumber) =>
  z.union([threshold, z.literal('off').transform(() => null)])

const RATIO = 'write a share from 0 to 1, e.g. 0.05, or off'
const ratioOver = () => orOff(z.number(RATIO).min(0, RATIO).max(1, RATIO))

const TIMES = 'write a number over 1 and at most 100, e.g. 1.5, or off'
const times = () => orOff(z.number(TIMES).gt(1, TIMES).max(100, TIMES))

const Guard = z.strictObject({
  window: durationWithin(10_000, 3_600_000)
    .prefault('2m')
    .describe('Requests that ended longer ago count no more; 10s to 1h.'),
  min_requests: z
    .int()
    .min(10, 'must be at least 10: among fewer, one failure more or less is chance')
    .max(1_000_000)
    .default(50)
    .describe("An arm's requests within the window before anything is said of it."),
  error_ratio_over: ratioOver()
    .prefault(0.05)
    .describe('Share of requests that fail, time out or are cut short, 0 to 1, or `off`.'),
  empty_ratio_over: ratioOver()
    .prefault(0.05)
    .describe('Share of answers that end well with nothing in them, 0 to 1, or `off`.'),
  ttft_p95_times: times()
    .prefault(1.5)
    .describe("Times the other arms' 95th percentile of the time to the first content, or `off`."),
  inter_token_p95_times: times()
    .prefault(1.5)
    .describe("Times the other arms' 95th percentile of the time between two tokens, or `off`."),
})

const SHARE = 'write a share over 0 and at most 1, e.g. 0.1'

const Shadow = z.strictObject({
  pool: z.string().describe('The pool that gets the copies.'),
  share: z.number(SHARE).gt(0, SHARE).max(1, SHARE).describe('Of the requests, over 0, up to 1.'),
})

export type GuardSpec = z.output<typeof Guard>

export const grayShape = {
  sticky: z.enum(STICKY).default('tenant+user').describe('Who stays on one arm together.'),
  keep_arm: durationOrNone(DAY_MS)
    .prefault(formatDuration(KEEP_ARM_MS))
    .describe(
      'How long after its last request a conversation still keeps its arm; `0s`: not at all.',
    ),
  guard: Guard.optional().describe(
    'Turns an arm off that does worse than the others. Default none; `{}`: with these values.',
  ),
  shadow: Shadow.optional().describe(
    'Copies of requests to another pool, whose answers nobody reads. Default none.',
  ),
}
