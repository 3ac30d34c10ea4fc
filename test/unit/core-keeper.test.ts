import { describe, expect, it, vi } from 'vitest'
import { Keeper, type Grip, type Kept } from '../../worker/forward/keeper.ts'
import { settled } from './core-builders.ts'

/** Something an object keeps for us, and the object's words about it. */
function held() {
  const { promise, resolve: take, reject } = Promise.withResolvers<void>()
  promise.catch(() => undefined)
  const dispose = vi.fn<() => void>()
  const grip: Grip<Kept> = { kept: { wait: () => promise }, from: { [Symbol.dispose]: dispose } }
  return { grip, dispose, take, reset: () => reject(new Error('The Durable Object was reset.')) }
}

const keeperOf = (grip: Grip<Kept>, again: () => Promise<Grip<Kept> | 'taken' | null>) =>
  new Keeper(grip, { again, sleep: async () => undefined, random: () => 0 })

describe('what is kept across resets', () => {
  it('is taken back by the object: whoever watches is told, once', async () => {
    const { grip, take } = held()
    const onTaken = vi.fn<() => void>()
    const keeper = keeperOf(grip, async () => null)
    keeper.watch(onTaken)
    keeper.watch(onTaken)
    take()
    await settled()
    expect(onTaken).toHaveBeenCalledTimes(1)
  })

  it('is asked for anew after a reset, and watched again', async () => {
    const first = held()
    const second = held()
    const onTaken = vi.fn<() => void>()
    keeperOf(first.grip, async () => second.grip).watch(onTaken)
    first.reset()
    await settled()
    expect(first.dispose).toHaveBeenCalledTimes(1)
    expect(onTaken).not.toHaveBeenCalled()
    second.take()
    await settled()
    expect(onTaken).toHaveBeenCalledTimes(1)
  })

  it('is waited on beside itself, so that it can be dropped meanwhile', async () => {
    const { grip } = held()
    const wait = vi.spyOn(grip.kept, 'wait')
    const { promise, resolve } = Promise.withResolvers<void>()
    const onTaken = vi.fn<() => void>()
    Object.assign(grip.kept, { watch: async () => ({ wait: () => promise }) })
    keeperOf(grip, async () => null).watch(onTaken)
    await settled()
    expect(wait).not.toHaveBeenCalled()
    resolve()
    await settled()
    expect(onTaken).toHaveBeenCalledTimes(1)
  })

  it('is waited on itself where its object is of the release before', async () => {
    const { grip, take } = held()
    const unknown = new TypeError('The RPC receiver does not implement the method "watch".')
    const onTaken = vi.fn<() => void>()
    const kept = { ...grip.kept, watch: () => Promise.reject(unknown) }
    keeperOf({ ...grip, kept }, async () => 'taken').watch(onTaken)
    await settled()
    expect(onTaken, 'that is no reset').not.toHaveBeenCalled()
    take()
    await settled()
    expect(onTaken).toHaveBeenCalledTimes(1)
  })

  it('may have been withdrawn while the object was away', async () => {
    const { grip, reset } = held()
    const onTaken = vi.fn<() => void>()
    keeperOf(grip, async () => 'taken').watch(onTaken)
    reset()
    await settled()
    expect(onTaken).toHaveBeenCalledTimes(1)
  })

  it('is none of the business of a request that is over when it turns out to be withdrawn', async () => {
    const { grip, reset } = held()
    const { promise, resolve } = Promise.withResolvers<'taken'>()
    const onTaken = vi.fn<() => void>()
    const keeper = keeperOf(grip, () => promise)
    keeper.watch(onTaken)
    reset()
    await settled()
    await keeper.end(() => undefined)
    resolve('taken')
    await settled()
    expect(onTaken).not.toHaveBeenCalled()
  })

  it('is dropped when it ends, even where the last word does not arrive', async () => {
    const { grip, dispose } = held()
    const keeper = keeperOf(grip, async () => null)
    const lost = new Error('reset')
    await expect(keeper.end(() => Promise.reject(lost))).rejects.toBe(lost)
    expect(dispose).toHaveBeenCalledTimes(1)
    expect(await keeper.end(() => undefined), 'the second end is none').toBe(false)
  })

  it('hears the last word when it comes back to a request that is over, and is dropped', async () => {
    const first = held()
    const late = held()
    const { promise, resolve } = Promise.withResolvers<Grip<Kept>>()
    const keeper = keeperOf(first.grip, () => promise)
    keeper.watch(() => undefined)
    first.reset()
    await settled()
    const said: Kept[] = []
    const act = (kept: Kept): void => {
      expect(late.dispose).not.toHaveBeenCalled() // to be dropped is to be lost
      said.push(kept)
    }
    await keeper.end(act)
    resolve(late.grip)
    await settled()
    expect(said).toEqual([first.grip.kept, late.grip.kept])
    expect(late.dispose).toHaveBeenCalledTimes(1)
  })
})
