import {
  CONTRACT_VERSION,
  type Acquired,
  type Granted,
  type Settlement,
} from '../../durable-objects/pool/contract.ts'
import { reach, Refusal } from '../refusal.ts'
import type { Failure, ForwardDeps, Order } from './order.ts'
import { Slot } from './slot.ts'

/** The pool runs a newer fleet version than the one this request was resolved by. */
export class StaleRoute extends Error {
  readonly version: number

  constructor(version: number) {
    super(`the pool runs fleet version ${version}`)
    this.version = version
  }
}

/** For a slot that was granted to a request that may not have it. */
const REFUSED: Settlement = {
  ending: 'refused',
  ttftMs: null,
  durationMs: 0,
  promptTokens: null,
  completionTokens: null,
}

/**
 * Asks for a slot while the tenant's object is still deciding: one round trip, not two. If that says
 * no, the slot goes back at once.
 *
 * @param failed the attempts so far; their instances are avoided
 * @returns null when nobody is left who has not failed this request
 * @throws Refusal of the tenant's object, `pool_busy`, `no_instance_ready`, `router_unavailable`; StaleRoute
 */
export async function takeSlot(
  order: Order,
  deps: ForwardDeps,
  failed: readonly Failure[],
): Promise<Slot | null> {
  const avoid = failed.map(({ instance }) => instance)
  const [admitted, acquired] = await Promise.allSettled([
    order.admission,
    acquire(order, deps, avoid),
  ])
  if (admitted.status === 'rejected') {
    const grant = acquired.status === 'fulfilled' ? acquired.value : null
    if (grant?.kind === 'granted') deps.defer(slotOf(grant, order, deps).release(REFUSED))
    throw admitted.reason
  }
  showRoute(order)
  if (acquired.status === 'rejected') throw acquired.reason

  let answer = acquired.value
  // Nobody else is left, but the line may merely have been an idle one that vLLM was closing (L27).
  const onlyTheLine = failed.length === 1 && failed[0]?.unreached
  if (answer.kind === 'all-avoided' && onlyTheLine) answer = await acquire(order, deps, [])

  switch (answer.kind) {
    case 'granted':
      return slotOf(answer, order, deps)
    case 'stale':
      throw new StaleRoute(answer.version)
    case 'all-avoided':
      return null
    case 'busy':
      if (failed.length > 0) return null
      throw new Refusal('pool_busy', 'Every slot of this model is taken. Try again shortly.', {
        headers: { 'retry-after': String(answer.retryAfterS) },
      })
    case 'none-ready':
      if (failed.length > 0) return null
      throw new Refusal(
        'no_instance_ready',
        'No server of this model is ready. Try again shortly.',
        { cause: answer.why.join('; '), headers: { 'retry-after': '5' } },
      )
  }
}

/** What outlives the request's body, for as long as its slot is held. */
type Claimant = Pick<Order, 'route' | 'receipt' | 'deadline'>

/** What a request is known by, to the pool object. */
const claim = ({ route, receipt, deadline }: Claimant, { now }: ForwardDeps) => ({
  contract: CONTRACT_VERSION,
  fleet: route.fleet,
  request: receipt.requestId,
  remainingMs: deadline - now(),
})

const acquire = (order: Order, deps: ForwardDeps, avoid: readonly string[]): Promise<Acquired> =>
  reach('scheduler', () => deps.pool().acquire({ ...claim(order, deps), avoid }))

function slotOf(granted: Granted, order: Order, deps: ForwardDeps): Slot {
  const { route, receipt, deadline } = order
  const { instance } = granted.target
  const reattach = () =>
    deps.pool().reattach({ ...claim({ route, receipt, deadline }, deps), instance })
  return new Slot(granted, { reattach, sleep: deps.sleep, random: deps.random })
}

/** Told once the key has held: a revoked one learns nothing of what stands behind. */
function showRoute({ route, receipt }: Order): void {
  receipt.model = route.model.name
  receipt.arm = route.arm.name
  receipt.pool = route.pool.pool
  receipt.fleet = route.fleet
}
