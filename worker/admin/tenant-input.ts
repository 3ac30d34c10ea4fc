/** What operators say of tenants and keys, and what it becomes. */
import { z } from 'zod'
import type { KeyLimits, Overrides } from '../../durable-objects/tenant/contract.ts'
import { UNLIMITED } from '../../durable-objects/tenant/profile-change.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { isNetwork } from '../../durable-objects/tenant/networks.ts'

const LIMIT = `must be a whole number of at least 1, "${UNLIMITED}", or null for what the plan says`
const limit = z
  .custom<number | typeof UNLIMITED | null>(
    (value) => value === null || value === UNLIMITED || z.int().min(1).safeParse(value).success,
    LIMIT,
  )
  .optional()

const models = z
  .array(z.string().min(1).max(128))
  .min(1, 'needs at least one model; "*" allows all')
  .max(1_000)

const OverridesInput = z.strictObject({
  rpm: limit,
  tpm: limit,
  concurrency: limit,
  tokensPerDay: limit,
  tokensPerMonth: limit,
  class: z.enum(['interactive', 'standard', 'batch']).nullable().optional(),
  models: models.nullable().optional(),
})
export type OverridesInput = z.output<typeof OverridesInput>

const amount = z.number().gt(0, 'must be more than 0').max(1_000_000_000)
const BudgetInput = z.strictObject({ monthly: amount, stop: z.boolean().default(false) })

export const TenantId = z
  .string()
  .regex(
    TENANT_ID,
    'a tenant id has lower-case letters, digits and hyphens, at most 63, a letter or digit at either end',
  )

const plan = z.string().min(1).max(63).nullable()

export const NewTenantInput = z.strictObject({
  id: TenantId,
  plan: plan.default(null),
  overrides: OverridesInput.default({}),
  budget: BudgetInput.nullable().default(null),
})

export const TenantChangeInput = z.strictObject({
  plan: plan.optional(),
  overrides: OverridesInput.nullable().optional(),
  budget: BudgetInput.partial().extend({ stop: z.boolean().optional() }).nullable().optional(),
  suspended: z
    .union(
      [z.boolean(), z.strictObject({ reason: z.string().max(500) })],
      'must be true, false or {"reason": "…"}',
    )
    .optional(),
  now: z.boolean().default(false),
})

const keyLimit = z
  .int('must be a whole number of at least 1, or null for no limit of its own')
  .min(1)
  .nullable()
  .default(null)

const network = z
  .string()
  .refine(isNetwork, 'must be an address or a network (CIDR), e.g. 192.0.2.7 or 2001:db8::/32')

export const NewKeyInput = z.strictObject({
  name: z
    .string()
    .max(200)
    .regex(/^\P{Cc}*$/u, 'must be one line of text, without control characters')
    .nullable()
    .default(null),
  expires: z
    .union([z.string(), z.int()], 'must be a date, a duration such as 30d, or Unix milliseconds')
    .nullable()
    .default(null),
  models: models.nullable().default(null),
  rpm: keyLimit,
  tpm: keyLimit,
  addresses: z
    .array(network)
    .min(1, 'needs at least one address or network; null allows all')
    .max(1_000)
    .nullable()
    .default(null),
  budget: BudgetInput.nullable().default(null),
})

export const keyLimitsOf = ({
  rpm,
  tpm,
  models,
  addresses,
  budget,
}: z.output<typeof NewKeyInput>): KeyLimits => ({ rpm, tpm, models, addresses, budget })

/** Overrides in the words they are said in. */
export const saidOverrides = (overrides: Overrides): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(overrides).map(([name, value]) => [name, value === null ? UNLIMITED : value]),
  )
