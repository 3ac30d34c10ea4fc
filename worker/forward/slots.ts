import {
  CONTRACT_VERSION,
  UNSAID,
  type Granted,
  type NotGranted,
  type Work,
} from '../../durable-objects/pool/contract.ts'
import type { Claim } from '../../durable-objects/tenant/contract.ts'
import { Refusal } from '../refusal.ts'
import { keeping } from '../routing/resolve.ts'
import { askForSlot } from './fail-static.ts'
import type { Claimant, Failure, ForwardDeps } from './order.ts'
import { Slot } from './slot.ts'
import { IN_VAIN, turnOf } from './turn.ts'

/** The pool runs a newer fleet version than the one this request was resolved by. */
export class StaleRoute extends Error {
  readonly version: number

  constructor(version: number) {
    super(`the pool runs fleet version ${version}`)
    this.version = version
  }
}

/** The tenant's object knows that the request's conversation keeps another arm than that of its route. */
export class OtherArm extends Error {}

/** Times the route of one request may turn out stale; each is an `apply` that overtook it. */
export const STALE_TRIES = 3

export const fleetInFlux = (): Refusal =>
  new Refusal('router_unavailable', 'The fleet is being changed just now. Try again.', {
    headers: { 'retry-after': '1' },
  })

/** Nobody hears it. */
export const clientLeft = (): Refusal => new Refusal('upstream_failed', 'The client left.')

/**
 * Asks for a slot while the tenant's object is still deciding: one round trip, not two. If that says
 * no, or that the conversation keeps another arm, the slot goes back at once. Only where it is not known in
 * which class the tenant is served, his object is asked first.
 *
 * @param failed the attempts in this pool so far; their instances are avoided
 * @returns null when nobody is left who has not failed this request; a refusal when this pool has
 *   nothing to give, which another one may have: `pool_busy`, `no_instance_ready`, `router_unavailable`
 * @throws Refusal of the tenant's object, also for what it says while he waits, or where he has left;
 *   StaleRoute; OtherArm, whose route is then `keeping` that arm
 */
export async function takeSlot(
  claimant: Claimant,
  deps: ForwardDeps,
  failed: readonly Failure[],
): Promise<Slot | Refusal | null> {
  const avoid = failed.map(({ instance }) => instance)
  const reserving = reserve(claimant, deps)
  if (!claimant.reservation.warm) await reserving
  const acquiring = acquire(claimant, reserving, deps, avoid)
  try {
    await Promise.all([reserving, acquiring])
  } catch (cause) {
    // Said at once: the pool's object may be out of reach, and its answer is of no use to him any more.
    deps.defer(acquiring.then((late) => giveBack(late, claimant, deps)).catch(() => undefined))
    throw cause
  }
  showRoute(claimant)

  let answer = await acquiring
  // Nobody else is left, but the line may merely have been an idle one that vLLM was closing (L27).
  const onlyTheLine = failed.length === 1 && failed[0]?.unreached
  if (answer.kind === 'all-avoided' && onlyTheLine)
    answer = await acquire(claimant, reserving, deps, [])

  const { withdrawn } = claimant.reservation
  if (claimant.signal.aborted || withdrawn) {
    // Nothing was sent for him, so he pays nothing: neither here nor at a model to fall back to.
    deps.defer(giveBack(answer, claimant, deps))
    throw withdrawn ?? clientLeft()
  }
  switch (answer.kind) {
    case 'out-of-reach':
      return answer.refusal
    case 'granted':
      return slotOf(answer, claimant, deps)
    case 'stale':
      throw new StaleRoute(answer.version)
    case 'all-avoided':
      return null
    case 'busy':
      if (failed.length > 0) return null
      return new Refusal('pool_busy', 'Every slot of this model is taken. Try again shortly.', {
        headers: { 'retry-after': String(answer.retryAfterS) },
      })
    case 'none-ready':
      if (failed.length > 0) return null
      return new Refusal(
        'no_instance_ready',
        'No server of this model is ready. Try again shortly.',
        { cause: answer.why.join('; '), headers: { 'retry-after': '5' } },
      )
  }
}

/**
 * Has the tenant's object say whether the request may run, and on which arm.
 * @throws Refusal of the tenant's object; OtherArm
 */
export async function reserve(claimant: Claimant, deps: ForwardDeps): Promise<void> {
  const { route, reservation } = claimant
  await reservation.reserve(() => claimOn(claimant, deps))
  if (keeping(route, reservation.keeps) !== route) throw new OtherArm()
}

/**
 * What a request asks of its tenant's allowance. Answers are as long as the request allows, or as long
 * as nine in ten of this pool's are where it does not say.
 */
function claimOn(claimant: Claimant, deps: ForwardDeps): Claim {
  const { route, receipt, deadline, work, tokens } = claimant
  const { pool, limits } = route.pool
  const { promptTokens, outputTokens, answers = 1 } = work(route)
  const conversation = claimant.conversation?.(route) ?? null
  const longest = Math.min(outputTokens ?? deps.news.usualOutputTokens(pool), limits.outputTokens)
  return {
    request: receipt.requestId,
    model: route.model.name,
    asked: route.asked,
    promptTokens: tokens === 'none' ? 0 : promptTokens,
    outputTokens: tokens === 'answer' ? longest * answers : 0,
    remainingMs: deadline - deps.now(),
    pressure: deps.news.pressure(pool),
    ...(conversation && { conversation }),
  }
}

/** What a request is known by, to the pool object: its arm as well, where it is fit to be compared by. */
const known = (
  { route, receipt, deadline }: Pick<Claimant, 'route' | 'receipt' | 'deadline'>,
  { now }: ForwardDeps,
) => ({
  contract: CONTRACT_VERSION,
  fleet: route.fleet,
  request: receipt.requestId,
  remainingMs: deadline - now(),
  ...(route.byShares && { arm: { model: route.model.name, arm: route.arm.name } }),
})

/** What a pool has to say, as far as it can be asked. */
type PoolSaid = Granted | NotGranted | { readonly kind: 'out-of-reach'; readonly refusal: Refusal }

/** Where no slot is free, the answer of the queue is waited for. */
async function acquire(
  claimant: Claimant,
  reserving: Promise<void>,
  deps: ForwardDeps,
  avoid: readonly string[],
): Promise<PoolSaid> {
  const { route, reservation, mayQueue = true } = claimant
  const work: Work = { ...claimant.work(route), class: reservation.class }
  const ask = () => askForSlot(route, { ...known(claimant, deps), avoid, work, mayQueue }, deps)
  try {
    const answer = await ask()
    if (answer.kind !== 'queued') return answer
    const waited = await turnOf(answer, claimant, reserving, deps)
    if (waited !== null) return waited
    // The object was reset, and its queue with it: back to the end of a new one, once.
    const again = await ask()
    if (again.kind !== 'queued') return again
    return (await turnOf(again, claimant, reserving, deps)) ?? IN_VAIN
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'out-of-reach', refusal: error }
    throw error
  }
}

/** For one who may not have what the pool has granted, goes elsewhere, or has left. Never rejects. */
async function giveBack(said: PoolSaid, claimant: Claimant, deps: ForwardDeps): Promise<void> {
  if (said.kind !== 'granted') return
  await slotOf(said, claimant, deps).release({ ...UNSAID, ending: 'refused' })
}

function slotOf(granted: Granted, claimant: Claimant, deps: ForwardDeps): Slot {
  const { route, receipt, deadline } = claimant
  const { instance, base } = granted.target
  const reattach = () =>
    deps.pool(route).reattach({ ...known({ route, receipt, deadline }, deps), instance, base })
  return new Slot(granted, { reattach, sleep: deps.sleep, random: deps.random })
}

/** Told once the key has held: a revoked one learns nothing of what stands behind. */
function showRoute({ route, receipt }: Claimant): void {
  receipt.model = route.model.name
  receipt.arm = route.arm.name
  receipt.pool = route.pool.pool
  receipt.fleet = route.fleet
}
