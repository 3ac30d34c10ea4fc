/** The kinds of values that fields of `fleet.yaml` have. */
import { z } from 'zod'
import { MODEL_NAME } from './model-glob.ts'
import {
  DURATION_PATTERN,
  SIZE_PATTERN,
  formatDuration,
  parseDuration,
  parseSize,
} from './units.ts'
import type { Parsed } from './units.ts'

/**
 * A string that is read into something else; `read` says in one sentence what is wrong with it, whatever
 * stands there instead of a string.
 */
export const readAs = <T>(read: (value: unknown) => Parsed<T>, missing = 'is missing') =>
  z
    .string({
      error: ({ input }) => {
        if (input === undefined) return missing
        const parsed = read(input)
        return parsed.ok ? 'write it as text, in quotes' : parsed.message
      },
    })
    .transform((text, context): T => {
      const parsed = read(text)
      if (parsed.ok) return parsed.value
      context.issues.push({ code: 'custom', message: parsed.message, input: text })
      return z.NEVER
    })

export const Duration = readAs(parseDuration).meta({
  pattern: DURATION_PATTERN,
  examples: ['5s', '250ms'],
})
/** A duration of at least `least` and at most `most` milliseconds. */
export const durationWithin = (least: number, most: number) =>
  Duration.refine(
    (ms) => ms >= least && ms <= most,
    `must be at least ${formatDuration(least)} and at most ${formatDuration(most)}`,
  )
/** A duration of at most `most` milliseconds, or `0s`. */
export const durationOrNone = (most: number) =>
  readAs((value): Parsed<number> =>
    value === '0s' ? { ok: true, value: 0 } : parseDuration(value),
  )
    .refine((ms) => ms <= most, `must be at most ${formatDuration(most)}`)
    .meta({ pattern: DURATION_PATTERN, examples: ['30s', '0s'] })
export const Size = readAs(parseSize).meta({ pattern: SIZE_PATTERN, examples: ['16MiB', '512KiB'] })

/** The id of a site, pool, instance or arm. */
export const Id = z
  .string()
  .regex(
    /^[a-z][a-z0-9-]{0,62}$/,
    'use lowercase letters, digits and dashes, beginning with a letter, at most 63',
  )

const NAME_FORM = 'use letters, digits and . _ : / -, beginning with a letter or digit, at most 128'
const NO_ARM = 'must not contain @: qwen@canary means the arm canary of qwen'

/** A public model name. */
export const ModelName = z.string().regex(MODEL_NAME, {
  error: ({ input }) => {
    const name = String(input)
    if (name.includes('*')) return 'a model has one name; a glob such as claude-* is an alias of it'
    return name.includes('@') ? NO_ARM : NAME_FORM
  },
})

/** A further name of a model, or a glob of names: then with a letter or a digit in it, and no star beside a star. */
export const ModelAlias = z
  .string()
  .regex(/^(?=.*[A-Za-z0-9])(?!.*\*\*)[A-Za-z0-9*][A-Za-z0-9._:/*-]{0,127}$/, {
    error: ({ input }) => {
      const alias = String(input)
      if (alias.includes('@')) return NO_ARM
      if (!alias.includes('*')) return NAME_FORM
      // An unknown model must stay a 404: else whoever mistypes a name is answered, and billed, by this model.
      if (!/[A-Za-z0-9]/.test(alias)) {
        return 'would take every name that somebody mistypes; say how the names begin or end, e.g. claude-*'
      }
      if (alias.includes('**')) return 'one * stands for any run of characters; write it once'
      return 'use letters, digits and . _ : / - beside *, at most 128'
    },
  })

/** What no name has: control and format characters, halves of surrogate pairs, ends of lines. */
const ILLEGIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

/**
 * A name that vLLM was given, which may be nearly anything: a path, or words in any language.
 * @param form what is said of one that is none
 * @param most letters
 */
export const vllmName = (form: string, most: number) =>
  z
    .string()
    .trim()
    .min(1, form)
    .max(most, form)
    .refine((name) => !ILLEGIBLE.test(name), 'has a character in it that nobody can see')

/** The router's own secrets, which nobody must ever be sent, and its other bindings. */
const TAKEN =
  'ADMIN_TOKEN POOL TENANT DIRECTORY FLEET OPERATORS CF_VERSION BAD_KEYS USAGE ACCESS_TEAM_DOMAIN ACCESS_AUD'.split(
    ' ',
  )
/** Tenants' keys are signed with it; there may be further ones while it is exchanged. */
const SIGNING_SECRET = 'KEY_SIGNING_SECRET'
const SECRET_FORM =
  'name a Worker secret in capitals, e.g. NODE_KEY_A; the secret itself is never written here'

/** The name of a Worker secret. */
export const SecretName = z
  .string({ error: SECRET_FORM })
  .regex(/^[A-Z][A-Z0-9_]{0,127}$/, SECRET_FORM)
  .refine(
    (name) => !TAKEN.includes(name) && !name.startsWith(SIGNING_SECRET),
    "is a binding of the router's own; name a secret that is there for this alone",
  )
