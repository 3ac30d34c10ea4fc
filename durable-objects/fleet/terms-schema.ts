/** What `fleet.yaml` says to tenants: plans, prices, in which money and time, and who is told. */
import { z } from 'zod'
import { Id, SecretName, readAs } from './fields.ts'
import { nearest } from './nearest.ts'
import type { Plan, WebhookEvent } from './snapshot.ts'
import type { Parsed } from './units.ts'

/** A limit: a whole number, or no key at all. */
const limit = (what: string, example: string) => {
  const error = `write a whole number of at least 1, e.g. ${example}, without quotes or a unit; leave the key out for no limit`
  return z.int(error).min(1, error).optional().describe(`${what} Default none.`)
}

/** Each name once, so that the compiler finds one that is missing here or there. */
const CLASSES = {
  interactive: 'interactive',
  standard: 'standard',
  batch: 'batch',
} as const satisfies { readonly [name in Plan['class']]: name }

/** A model's name or alias, or a glob of names. */
const ModelPattern = z.string().regex(/^[A-Za-z0-9*][A-Za-z0-9._:/*-]{0,127}$/, {
  error: ({ input }) =>
    String(input).includes('@')
      ? 'must not contain @: a plan allows a model, with all its arms'
      : 'write the name of a model, a glob such as qwen-*, or "*" for every model',
})

export const PlanSpec = z.strictObject({
  models: z
    .array(ModelPattern)
    .min(1, 'needs at least one model; "*" allows all')
    .default(['*'])
    .describe('Models it allows: names, aliases, globs such as qwen-*, or `*` for all of them.'),
  rpm: limit('Requests within any sixty seconds.', '600'),
  tpm: limit('Tokens within any sixty seconds, prompts and answers together.', '400_000'),
  concurrency: limit('Requests that run at once.', '64'),
  tokens_per_day: limit("Tokens of a calendar day in billing's time zone.", '10_000_000'),
  tokens_per_month: limit("Tokens of a calendar month in billing's time zone.", '500_000_000'),
  class: z
    .enum(CLASSES)
    .default('standard')
    .describe('Whose requests go first where they wait, and whose limits shrink last.'),
  dry_run: z
    .boolean()
    .default(false)
    .describe('Counts and tells what its limits would refuse, and refuses nothing.'),
})

const money = z.number().min(0).max(1_000_000)

export const PriceSpec = z.strictObject({
  prompt: money.describe('For a million tokens of prompts.'),
  cached: money
    .optional()
    .describe('For a million of them that came out of a prefix cache. Default: as prompt.'),
  completion: money.describe('For a million tokens of answers; 0 where a model writes none.'),
})

const CURRENCY = /^[A-Z]{3}$/

function parseCurrency(value: unknown): Parsed<string> {
  if (typeof value === 'string' && CURRENCY.test(value)) return { ok: true, value }
  const capitals = String(value).toUpperCase()
  const message = CURRENCY.test(capitals)
    ? `write ${capitals}, in capitals`
    : 'write the three letters of ISO 4217, e.g. EUR, USD or CNY'
  return { ok: false, message }
}

const isTimeZone = (name: string): boolean => {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).format(0) !== ''
  } catch {
    return false
  }
}

/** Reads the IANA name of a time zone. An offset such as +01:00 is none: it knows no summer time. */
function parseTimeZone(value: unknown): Parsed<string> {
  const text = String(value)
  if (/^[A-Za-z]/.test(text) && isTimeZone(text)) return { ok: true, value: text }
  const near = nearest(text, Intl.supportedValuesOf('timeZone'))
  const hint = near === null ? ', e.g. Europe/Berlin' : `; did you mean ${near}?`
  return { ok: false, message: `write the IANA name of a time zone${hint}` }
}

const BillingSpec = z.strictObject({
  currency: readAs(parseCurrency)
    .meta({ pattern: CURRENCY.source, examples: ['EUR', 'USD'] })
    .optional()
    .describe(
      'The money that prices and budgets are in, ISO 4217. Needed where a model has a price.',
    ),
  time_zone: readAs(parseTimeZone)
    .prefault('UTC')
    .describe('By which days and months begin, for quotas, budgets and usage: an IANA name.'),
})

const EVENTS = { budget: 'budget', guard: 'guard' } as const satisfies {
  readonly [name in WebhookEvent]: name
}
const LATER_EVENTS: readonly unknown[] = ['ejection', 'path-down']

const WebhookSpec = z.strictObject({
  url_secret: SecretName.describe('Name of the Worker secret with the URL that is called.'),
  events: z
    .array(
      z.enum(EVENTS, {
        error: ({ input }) =>
          LATER_EVENTS.includes(input)
            ? `${String(input)} is not supported in this version; there is ${Object.keys(EVENTS).join(', ')}`
            : undefined,
      }),
    )
    .min(1, 'needs at least one event, e.g. budget')
    .describe(
      'What it is told of; `budget`: a tenant or key has used 80 or 100 % of its budget; `guard`: an arm was turned off.',
    ),
})

export const termsShape = {
  plans: z
    .record(Id, PlanSpec)
    .default({})
    .describe('What tenants may use, by plan. A tenant without one has no limits.'),
  billing: BillingSpec.prefault({}).describe('Which money and which days are meant.'),
  webhooks: z.array(WebhookSpec).default([]).describe('Who is told of what, by an HTTP request.'),
}
