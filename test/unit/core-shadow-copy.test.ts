/** What a copy for a shadow is made of. */
import { expect, it, vi } from 'vitest'
import { forward } from '../../worker/forward/forward.ts'
import { respond } from '../../worker/forward/respond.ts'
import { stream } from './core-answers.ts'
import './core-ask.ts'
import { worldOf } from './core-world.ts'

// It does what it does, and notes what it was given.
vi.mock(import('../../worker/forward/forward.ts'), { spy: true })

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
  await (await respond(real, deps)).text()
  await over()
  expect(demands.map(({ pool }) => pool)).toEqual(['qwen-14b', 'shadow'])
  const [, [copy] = []] = vi.mocked(forward).mock.calls
  expect(copy!.conversation!(copy!.routes[0])).toBeNull()
  expect(conversation, 'for the real request').toHaveBeenCalledOnce()
  // Each of them holds the request's body, or its tenant.
  const kept = (['prepare', 'work', 'conversation', 'reservation', 'receipt'] as const).filter(
    (name) => copy?.[name] === real[name],
  )
  expect(kept).toEqual([])
})
