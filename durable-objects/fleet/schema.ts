/**
 * The one schema of `fleet.yaml`: types, checks, editors' hints and the kit all come from it.
 * Objects are strict, and a field is here only once it does what it says. What holds between fields
 * is in `rules.ts`; a model is in `model-schema.ts`, the defaults of a pool are in `settings.ts`.
 */
import { z } from 'zod'
import { parseCorsOrigin, parseHost, parseInstanceUrl, parseOrigin } from './address.ts'
import { authShape } from './auth-schema.ts'
import { Id, ModelName, SecretName, readAs, vllmName } from './fields.ts'
import { ModelSpec } from './model-schema.ts'
import { RULE_ENTRIES } from './rule-schema.ts'
import { settingsShape } from './settings.ts'
import { PlanSpec, termsShape } from './terms-schema.ts'
import { GROUPED } from './units.ts'
import type { Parsed } from './units.ts'

const Site = z.strictObject({
  origin: readAs((text): Parsed<string> => {
    if (typeof text === 'string') return parseOrigin(text)
    return {
      ok: false,
      message: 'write one https URL; a list or { vpc } is not supported in this version',
    }
  }, 'is missing: write the URL of the tunnel, e.g. https://gpu-a.example.com').describe(
    "The tunnel's hostname as one https URL, without a path; http on loopback and private addresses only.",
  ),
  access: z
    .strictObject({
      id: SecretName.describe('Name of the Worker secret with the client id.'),
      secret: SecretName.describe('Name of the Worker secret with the client secret.'),
    })
    .optional()
    .describe('Service token of Cloudflare Access, sent with every request.'),
  node_key: SecretName.optional().describe(
    'Name of the Worker secret that Nginx asks of the edge; needed unless origin is a private address.',
  ),
  region: z
    .enum(['wnam', 'enam', 'sam', 'weur', 'eeur', 'apac', 'oc', 'afr', 'me'])
    .optional()
    .describe("Where its pools' objects should live (a Durable Object location hint)."),
})

const slots = z
  .int()
  .min(1)
  .max(1024)
  .default(32)
  .describe("Most requests in flight at once; vLLM's --max-num-seqs is a good measure.")
const weight = z
  .number()
  .min(0.01)
  .max(1000)
  .default(1)
  .describe('Share of the work compared with the other instances of the pool.')

const port = z.int().min(1).max(65_535)

/** One vLLM process that a site's Nginx reaches. */
export const SiteInstance = z.strictObject({
  id: Id.describe('Unique in the whole fleet: it is part of the path on the site (/i/<id>/).'),
  site: z.string().describe('The site whose Nginx reaches it.'),
  host: readAs(parseHost)
    .default('127.0.0.1')
    .describe('IP address, as seen from the Nginx of its site.'),
  port: port.describe('Port of this vLLM process.'),
  grpc_port: port
    .optional()
    .describe('Port of its gRPC server, where it has one: Nginx offers it on the LAN.'),
  slots,
  weight,
})

/** One vLLM process that is called directly, or a hosted service as the last resort. */
export const UrlInstance = z.strictObject({
  id: Id.describe('Unique in the whole fleet.'),
  url: readAs(parseInstanceUrl).describe(
    'Called directly, without a site: http on a loopback or private address; https for a hosted service as the last resort.',
  ),
  key_env: SecretName.optional().describe(
    "Name of the Worker secret with vLLM's --api-key, or with the service's key.",
  ),
  last_resort: z
    .boolean()
    .default(false)
    .describe('Used only when no other instance of the pool can take a request.'),
  slots,
  weight,
})

const Pool = z.strictObject({
  served_as: vllmName(
    'write the name that vLLM knows (--served-model-name), at most 256 long',
    256,
  ).describe('The model name that vLLM knows.'),
  instances: z
    .array(z.union([SiteInstance, UrlInstance]))
    .min(1, 'needs at least one instance')
    .describe('The vLLM processes that serve this model build, each as good as the other.'),
  ...settingsShape,
})

/** `fleet.yaml`: what it may say, and what each field becomes (milliseconds, bytes, canonical URLs). */
export const FleetFile = z
  .strictObject({
    sites: z
      .record(Id, Site)
      .default({})
      .describe('On-prem locations: a tunnel with Nginx behind it.'),
    defaults: z
      .strictObject(settingsShape)
      .default({})
      .describe('For every pool; a pool may override any of them.'),
    pools: z
      .record(Id, Pool)
      .refine((pools) => Object.keys(pools).length > 0, 'needs at least one pool')
      .describe('Interchangeable instances that serve one model build, by pool id.'),
    models: z
      .record(ModelName, ModelSpec)
      .refine((models) => Object.keys(models).length > 0, 'needs at least one model')
      .describe('The public names that tenants ask for.'),
    ...termsShape,
    ...authShape,
    cors: z
      .strictObject({
        origins: z
          .array(readAs(parseCorsOrigin))
          .default(['*'])
          .describe(
            'Web pages that may call the API: `*`, or origins such as https://app.example.com.',
          ),
      })
      // Open unless said otherwise: no cookie is ever looked at, a key is what lets a caller in.
      .default({ origins: ['*'] })
      .describe('Cross-origin requests from browsers. Any page may ask unless origins are listed.'),
    receipts: z
      .boolean()
      .default(true)
      .describe('Whether answers carry x-penstock-* headers that say how they came about.'),
  })
  .describe(
    'The fleet: sites, pools of vLLM instances, the models that tenants ask for, and on which terms.',
  )

export type FleetFile = z.output<typeof FleetFile>
export type FleetInput = z.input<typeof FleetFile>
export type PoolSpec = FleetFile['pools'][string]
export type InstanceSpec = PoolSpec['instances'][number]

/** The schema of each entry of the maps by name, by what the map is called, for an entry whose key alone is refused. */
export const ENTRIES: Readonly<Record<string, z.ZodType>> = {
  sites: Site,
  pools: Pool,
  models: ModelSpec,
  plans: PlanSpec,
  ...RULE_ENTRIES,
}

/** What editors check and complete `fleet.yaml` with. */
export function fleetJsonSchema(): object {
  return {
    $id: 'fleet.schema.json',
    title: 'Penstock fleet',
    ...z.toJSONSchema(FleetFile, {
      io: 'input',
      override: ({ jsonSchema }) => {
        if (jsonSchema.type === 'integer') allowGroups(jsonSchema)
      },
    }),
  }
}

/** Editors read YAML 1.2, to which `400_000` is text. */
function allowGroups(schema: z.core.JSONSchema.BaseSchema): void {
  const { type, minimum, maximum } = schema
  for (const key of ['type', 'minimum', 'maximum'] as const) delete schema[key]
  const isBound = maximum !== Number.MAX_SAFE_INTEGER
  schema.anyOf = [
    { type, ...(minimum !== undefined && { minimum }), ...(isBound && { maximum }) },
    { type: 'string', pattern: GROUPED.source },
  ] as z.core.JSONSchema.BaseSchema[]
}
