/** The routes that need neither a body nor the engine. */
import type { SimContext } from './exchange.ts'
import { hexId } from './ids.ts'
import { metricsPage } from './metrics-page.ts'
import { json, type Reply } from './reply.ts'

/** The text of `/metrics` now, or as it was when the engine froze. */
export const currentMetrics = (sim: SimContext): string =>
  sim.frozenPage ??
  metricsPage({
    engine: sim.driver.engine,
    now: sim.driver.now(),
    http: sim.http,
    model: sim.names[0] ?? '',
    startedAt: sim.startedAt,
  })

/** The model list: one card per served name, then one per adapter. */
export function models({ names, adapters, maxModelLen }: SimContext): Reply {
  const created = Math.floor(Date.now() / 1000)
  const [base = ''] = names
  const cards = [
    ...names.map((id) => ({ id, root: base, parent: null, longest: maxModelLen })),
    ...adapters.map((id) => ({ id, root: id, parent: base, longest: null })),
  ]
  const data = cards.map(({ id, root, parent, longest }) => ({
    id,
    object: 'model',
    created,
    owned_by: 'vllm',
    root: `./${root}`,
    parent,
    max_model_len: longest,
    permission: [
      {
        id: `modelperm-${hexId()}`,
        object: 'model_permission',
        created,
        allow_create_engine: false,
        allow_sampling: true,
        allow_logprobs: true,
        allow_search_indices: false,
        allow_view: true,
        allow_fine_tuning: false,
        organization: '*',
        group: null,
        is_blocking: false,
      },
    ],
  }))
  return json({ object: 'list', data })
}
