/** One entry of `models` in `fleet.yaml`: its names, and what is behind them. */
import { z } from 'zod'
import { HOST_PATTERN, parseModelHost } from './address.ts'
import { Id, ModelAlias, readAs, vllmName } from './fields.ts'
import { grayShape } from './gray-schema.ts'
import { rulesShape } from './rule-schema.ts'
import { PriceSpec } from './terms-schema.ts'

const Arm = z.strictObject({
  pool: z.string().describe('The pool that serves this arm.'),
  weight: z
    .number()
    .min(0)
    .max(10_000)
    .default(100)
    .describe('Share of the requests compared with the other arms.'),
  name: Id.optional().describe("What to call the arm; `stable` for the first, else the pool's id."),
  adapter: vllmName('write a name of --lora-modules, at most 128 long', 128)
    .optional()
    .describe(
      "A LoRA adapter of the pool's vLLMs, asked for in place of their model. Default none.",
    ),
})

export const ModelSpec = z.strictObject({
  aliases: z
    .array(ModelAlias)
    .default([])
    .describe('Further names under which clients may ask for it, or globs of them: claude-*.'),
  path: z
    .string()
    .regex(
      /^(\/[a-z0-9][a-z0-9._-]{0,62})+$/,
      'write a path such as /qwen: lowercase letters, digits and . _ -, no slash at the end',
    )
    .optional()
    .describe('URL prefix under which every endpoint means this model: /qwen/v1/chat/completions.'),
  hosts: z
    .array(readAs(parseModelHost).meta({ pattern: HOST_PATTERN }))
    .default([])
    .describe('Host names under which every endpoint means this model: qwen.api.example.com.'),
  arms: z
    .array(Arm)
    .min(1, 'needs at least one arm')
    .describe('The pools behind this name and their shares: stable, canary, A/B.'),
  ...grayShape,
  ...rulesShape,
  fallback: z
    .array(z.string())
    .default([])
    .describe('Models tried, in this order, when nothing here can answer.'),
  price: PriceSpec.optional().describe(
    'Money for a million tokens, in the currency of `billing`. Default none: it costs nothing.',
  ),
})

export type ModelSpec = z.output<typeof ModelSpec>

/** What an arm is called: as the file says, or `stable` for the first, and its pool for any other. */
export const armName = (
  { name, pool }: { readonly name?: string | undefined; readonly pool: string },
  index: number,
): string => name ?? (index === 0 ? 'stable' : pool)
