/** What a copy for a shadow is made of. */
import { expect, it, vi } from 'vitest'
import type { Order } from '../../worker/forward/order.ts'
import { respond } from '../../worker/forward/respond.ts'
import { stream } from './core-answers.ts'
import './core-ask.ts'
import { worldOf } from './core-world.ts'

it('a copy is of no conversation, and keeps nothing alive of the order that it was made of', async () => {
  const { order, deps, over, demands } = worldOf({
    instances: { a: stream() },
    shadow: { s: stream() },
  })
  const conversation = vi.fn<NonNullable<typeof order.conversation>>(() => ({
    key: 'k',
    arm: 'stable',
    mayKeep: ['stable'],
    keepMs: 1,
    underWay: true,
    turn: null,
  }))
  const real = { ...order, conversation }
  const release = vi.fn<() => void>()
  deps.copies.hold = () => ({ grow: () => undefined, release })
  await (await respond(real, deps)).text()
  await over()
  expect(demands.map(({ pool }) => pool)).toEqual(['qwen-14b', 'shadow'])
  const [copy] = release.mock.contexts as Order[] // whose method it has become
  expect(copy!.conversation!(copy!.routes[0])).toBeNull()
  expect(conversation, 'for the real request').toHaveBeenCalledOnce()
  // Each of them holds the request's body, or its tenant.
  const holders = [
    'prepare',
    'work',
    'conversation',
    'reservation',
    'receipt',
    'releaseBody',
  ] as const
  expect(holders.filter((name) => copy?.[name] === real[name])).toEqual([])
})
