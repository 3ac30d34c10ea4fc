/** The rules of a model in `fleet.yaml`: on what is asked and by whom, and where it leads. */
import { z } from 'zod'
import { ModelName, Id } from './fields.ts'

/** A text, or a beginning with `*` at its end. */
const patternOf = (form: RegExp, error: string) => z.string().regex(form, error)

/** One of them or several, of which one must fit; read as a list. */
const oneOrMore = (pattern: z.ZodType<string, string>) =>
  z.union([
    pattern.transform((text) => [text]),
    z.array(pattern).min(1, 'needs at least one text; remove the key where any will do'),
  ])

const Texts = oneOrMore(
  patternOf(
    /^(?:[^*]{1,256}\*?|\*)$/,
    'write a text, or how it begins: u-7*; * stands at the end alone, and several texts in a list',
  ),
)
const Tenants = oneOrMore(
  patternOf(
    /^[a-z0-9][a-z0-9-]{0,62}\*?$/,
    "write a tenant's id, e.g. acme, or how it begins: acme-*; lowercase letters, digits and dashes",
  ),
)
const Plans = oneOrMore(
  patternOf(
    /^[a-z][a-z0-9-]{0,62}\*?$/,
    'write the name of a plan, e.g. pro, or how it begins: pro-*; lowercase letters, digits and dashes',
  ),
)
const Keys = oneOrMore(
  patternOf(
    /^[0-9A-Za-z]{1,64}\*?$/,
    "write a key's id, letters and digits, as `penstock key list` shows it; never the key itself",
  ),
)

/** Headers by which a caller proves who it is: their values must not stand in a file. */
const SECRET_HEADERS: readonly string[] = [
  'authorization',
  'proxy-authorization',
  'x-api-key',
  'cookie',
  'sec-websocket-protocol', // browsers have no other place for a key on a WebSocket
  'cf-access-client-secret',
  'cf-access-jwt-assertion',
]
const CARRIES_KEY =
  'carries a key, and keys must not stand in this file; write key, tenant or plan beside header'

/** RFC 9110 §5.1, but for `*`, which means something else here. */
const HEADER_NAME = /^[a-z0-9!#$%&'+.^_`|~-]{1,128}$/

const HeaderName = z
  .string()
  .regex(HEADER_NAME, {
    error: ({ input }) => {
      const lower = String(input).toLowerCase()
      if (SECRET_HEADERS.includes(lower)) return CARRIES_KEY
      if (HEADER_NAME.test(lower)) return `write it in lower case: ${lower}`
      return 'is no name of a header; write letters, digits and dashes, e.g. x-model-version'
    },
  })
  .refine((name) => !SECRET_HEADERS.includes(name), CARRIES_KEY)

const armWeight = z.number().min(0).max(10_000)

const When = z.strictObject({
  header: z
    .record(HeaderName, Texts)
    .refine(
      (headers) => Object.keys(headers).length > 0,
      'needs at least one header, e.g. { x-model-version: int8 }',
    )
    .optional()
    .describe('Values by header name, in lower case: `int8`, `int*`, or a list; `*`: it is there.'),
  tenant: Tenants.optional().describe("Tenants' ids: `acme`, `acme-*`, or a list."),
  plan: Plans.optional().describe("Names of plans: `pro`, `pro-*`, or a list; the tenant's."),
  key: Keys.optional().describe("Keys' ids, or a list of them."),
  user: Texts.optional().describe(
    "The body's word for its end user: `user`, `safety_identifier` or `metadata.user_id`; `u-7*`, or a list.",
  ),
  prompt_tokens_over: z
    .int()
    .min(1)
    .max(100_000_000)
    .optional()
    .describe('The prompt has more tokens than this, by an estimate.'),
  tools: z.boolean().optional().describe('Whether it brings tools.'),
  images: z.boolean().optional().describe('Whether it brings pictures.'),
  stream: z.boolean().optional().describe('Whether it asks for a stream.'),
})

/** That it leads somewhere, and to one place alone, is a rule between fields. */
const RuleSpec = z.strictObject({
  when: When.describe('What must hold, all of it.'),
  arm: Id.optional().describe('The arm that it leads to.'),
  arms: z
    .record(Id, armWeight)
    .optional()
    .describe("Weights by arm, in place of the model's own; an arm that is not named gets none."),
  model: ModelName.optional().describe('The model that it leads to; the rules there are not read.'),
})

export type RuleSpec = z.output<typeof RuleSpec>

export const rulesShape = {
  rules: z
    .array(RuleSpec)
    .default([])
    .describe("What a request must have to go elsewhere than the arms' weights say; first match."),
}

/** The schemas of values whose key alone is refused. */
export const RULE_ENTRIES = { header: Texts, arms: armWeight }
