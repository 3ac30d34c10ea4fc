import type { Demand, Explanation } from './contract.ts'
import type { Dispatcher } from './dispatcher.ts'

/** What a dispatcher would decide, and why, as an operator reads it. */
export function explanationOf(dispatcher: Dispatcher, demand: Demand): Explanation {
  const { choice, candidacies, expectedHitTokens } = dispatcher.explain(demand)
  const { kind } = choice
  return {
    policy: dispatcher.chooser.policy,
    outcome: kind === 'all-full' || kind === 'too-long' ? 'busy' : kind,
    instance: kind === 'picked' ? choice.id : null,
    expectedHitTokens,
    instances: candidacies.map(({ id, droppedBy, opinions, total }) => ({
      id,
      droppedBy,
      scores: opinions,
      total,
    })),
  }
}
