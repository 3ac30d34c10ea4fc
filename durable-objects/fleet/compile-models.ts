/** What the models of a file become: for the Worker, and for the pools behind them. */
import { armName } from './model-schema.ts'
import type { GuardSpec } from './gray-schema.ts'
import type { ModelSpec } from './model-schema.ts'
import type { RuleSpec } from './rule-schema.ts'
import type { FleetFile } from './schema.ts'
import type { Guard, ModelRoute, Rule, RuleCondition, RuleLead } from './snapshot.ts'

function condition({ when }: RuleSpec): RuleCondition {
  const { header, tenant, plan, key, user, prompt_tokens_over: over, ...switches } = when
  return {
    ...(header && { headers: header }),
    ...(tenant && { tenants: tenant }),
    ...(plan && { plans: plan }),
    ...(key && { keys: key }),
    ...(user && { users: user }),
    ...(over !== undefined && { promptTokensOver: over }),
    ...(switches.tools !== undefined && { tools: switches.tools }),
    ...(switches.images !== undefined && { images: switches.images }),
    ...(switches.stream !== undefined && { stream: switches.stream }),
  }
}

/** Of a checked file: one of the three is there. */
function lead({ arm, arms, model }: RuleSpec): RuleLead {
  if (arm !== undefined) return { kind: 'arm', arm }
  if (model !== undefined) return { kind: 'model', model }
  return { kind: 'arms', weights: arms ?? {} }
}

const rule = (spec: RuleSpec): Rule => ({ when: condition(spec), lead: lead(spec) })

const guard = (spec: GuardSpec): Guard => ({
  windowMs: spec.window,
  minRequests: spec.min_requests,
  errorRatioOver: spec.error_ratio_over,
  emptyRatioOver: spec.empty_ratio_over,
  ttftP95Times: spec.ttft_p95_times,
  interTokenP95Times: spec.inter_token_p95_times,
})

/** @param created Unix seconds */
export function modelRoute(name: string, spec: ModelSpec, created: number): ModelRoute {
  return {
    name,
    created,
    aliases: spec.aliases,
    path: spec.path ?? null,
    arms: spec.arms.map((arm, index) => ({
      name: armName(arm, index),
      pool: arm.pool,
      weight: arm.weight,
      adapter: arm.adapter ?? null,
    })),
    fallback: spec.fallback,
    hosts: spec.hosts,
    sticky: spec.sticky,
    rules: spec.rules.map(rule),
    guard: spec.guard ? guard(spec.guard) : null,
    shadow: spec.shadow ?? null,
    keepArmMs: spec.keep_arm,
  }
}

/** Adapters that arms want of a pool, each once. */
export const adaptersOf = ({ models }: FleetFile, pool: string): readonly string[] => {
  const arms = Object.values(models).flatMap((model) => model.arms)
  return [
    ...new Set(arms.flatMap((arm) => (arm.pool === pool && arm.adapter ? [arm.adapter] : []))),
  ]
}

/** Models whose arms are compared, and of which an arm or the shadow is in this pool. */
export const comparedOn = ({ models }: FleetFile, pool: string): readonly string[] =>
  Object.entries(models)
    .filter(([, { arms, shadow }]) => arms.length > 1 || shadow !== undefined)
    .filter(([, { arms, shadow }]) => [...arms, shadow].some((it) => it?.pool === pool))
    .map(([name]) => name)
