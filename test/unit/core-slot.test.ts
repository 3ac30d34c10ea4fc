import { describe, expect, it, vi } from 'vitest'
import type { Reattached, Settlement } from '../../durable-objects/pool/contract.ts'
import { Slot } from '../../worker/forward/slot.ts'
import { settled, target } from './core-builders.ts'

const DONE: Settlement = {
  ending: 'done',
  ttftMs: 1,
  durationMs: 2,
  promptTokens: null,
  completionTokens: null,
  cachedTokens: null,
  counted: null,
}

/** A lease of an object that can be reset. */
function lease() {
  let reset!: (cause: Error) => void
  let dismiss!: () => void
  const broken = new Promise<void>((resolve, reject) => {
    reset = reject
    dismiss = resolve
  })
  broken.catch(() => undefined)
  return {
    wait: vi.fn<() => Promise<void>>(() => broken),
    release: vi.fn<(settlement: Settlement) => Promise<void>>(async () => undefined),
    dispose: vi.fn<() => void>(),
    reset: () => reset(new Error('The Durable Object was reset.')),
    dismiss,
  }
}
type Held = ReturnType<typeof lease>

const answering = (held: Held): Reattached & Disposable => ({
  kind: 'reattached',
  lease: held,
  [Symbol.dispose]: held.dispose,
})

/** A slot over `first`; what re-attaching answers, in turn. */
function slotOver(first: Held, ...answers: readonly (() => Promise<Reattached> | Reattached)[]) {
  const queue = [...answers]
  const reattach = vi.fn<() => Promise<Reattached>>(async () => queue.shift()!())
  const sleeps: number[] = []
  const granted = {
    kind: 'granted',
    target: target(),
    reason: 'least_inflight',
    lease: first,
  } as const
  const slot = new Slot(Object.assign(granted, { [Symbol.dispose]: first.dispose }), {
    reattach,
    random: () => 0.5,
    sleep: async (ms) => {
      sleeps.push(ms)
    },
  })
  const onDismissed = vi.fn<() => void>()
  slot.watch(onDismissed)
  return { slot, reattach, sleeps, onDismissed }
}

describe('Slot', () => {
  it('gives the slot back, once, with how it went', async () => {
    const held = lease()
    const { slot } = slotOver(held)
    await slot.release(DONE)
    await slot.release({ ...DONE, ending: 'client-left' })
    expect(held.release.mock.calls).toEqual([[DONE]])
    expect(held.dispose).toHaveBeenCalledTimes(1)
  })

  it('comes back to an object that was reset, after a while of its own', async () => {
    const [first, second] = [lease(), lease()]
    const { slot, reattach, sleeps } = slotOver(first, () => answering(second))
    first.reset()
    await settled()
    expect(reattach).toHaveBeenCalledTimes(1)
    expect(sleeps[0], 'spread, so that not all come back at once').toBeGreaterThan(0)
    await slot.release(DONE)
    expect(second.release).toHaveBeenCalledWith(DONE)
    expect(first.release).not.toHaveBeenCalled()
  })

  it('comes back again and again', async () => {
    const held = [lease(), lease(), lease()] as const
    const { slot, reattach } = slotOver(
      held[0],
      () => answering(held[1]),
      () => answering(held[2]),
    )
    held[0].reset()
    await settled()
    held[1].reset()
    await settled()
    expect(reattach).toHaveBeenCalledTimes(2)
    await slot.release(DONE)
    expect(held[2].release).toHaveBeenCalledTimes(1)
  })

  it('tries once more, later each time, while the object is still starting', async () => {
    const [first, second] = [lease(), lease()]
    const starting = () => Promise.reject(new Error('starting'))
    const { reattach, sleeps } = slotOver(first, starting, starting, () => answering(second))
    first.reset()
    await settled()
    expect(reattach).toHaveBeenCalledTimes(3)
    expect(sleeps).toEqual(sleeps.toSorted((a, b) => a - b))
    expect(new Set(sleeps).size).toBe(3)
  })

  it('gives up after a few tries', async () => {
    const first = lease()
    const { reattach } = slotOver(
      first,
      ...Array.from({ length: 20 }, () => () => Promise.reject(new Error('still down'))),
    )
    first.reset()
    await settled()
    expect(reattach.mock.calls.length).toBeLessThan(10)
  })

  it('does not come back when the instance is gone', async () => {
    const first = lease()
    const { slot, reattach } = slotOver(first, () => ({ kind: 'gone' }))
    first.reset()
    await settled()
    expect(reattach).toHaveBeenCalledTimes(1)
    await slot.release(DONE)
  })

  it('does not come back once it is given back', async () => {
    const first = lease()
    const { slot, reattach } = slotOver(first)
    await slot.release(DONE)
    first.reset()
    await settled()
    expect(reattach).not.toHaveBeenCalled()
  })

  it('drops what it got by coming back after the request was over', async () => {
    const [first, second] = [lease(), lease()]
    let answer!: (reattached: Reattached) => void
    const { slot } = slotOver(first, () => new Promise<Reattached>((resolve) => (answer = resolve)))
    first.reset()
    await settled()
    await slot.release(DONE)
    answer(answering(second))
    await settled()
    expect(second.dispose).toHaveBeenCalledTimes(1)
  })

  it('does not mind an object that was reset at the very end', async () => {
    const first = lease()
    first.release.mockRejectedValue(new Error('The Durable Object was reset.'))
    const { slot } = slotOver(first)
    await expect(slot.release(DONE)).resolves.toBeUndefined()
    expect(first.dispose).toHaveBeenCalledTimes(1)
  })

  it('costs no call to be watched unless it is asked for, nor once it is over', async () => {
    const first = lease()
    const granted = { kind: 'granted', target: target(), reason: '', lease: first } as const
    const deps = {
      reattach: vi.fn<() => Promise<Reattached>>(),
      random: () => 0,
      sleep: async () => undefined,
    }
    const slot = new Slot(granted, deps)
    await slot.release(DONE)
    slot.watch(() => undefined)
    expect(first.wait).not.toHaveBeenCalled()
  })

  it('passes on that its instance was given up, and nothing once it is over', async () => {
    const [first, late] = [lease(), lease()]
    const { onDismissed, reattach } = slotOver(first)
    first.dismiss()
    await vi.waitFor(() => expect(onDismissed).toHaveBeenCalledTimes(1))
    expect(reattach, 'an ejection is no reset').not.toHaveBeenCalled()

    const over = slotOver(late)
    await over.slot.release(DONE)
    late.dismiss()
    await late.wait()
    expect(over.onDismissed).not.toHaveBeenCalled()
  })

  it('is watched once, however often it is asked for', () => {
    const first = lease()
    const { slot } = slotOver(first)
    slot.watch(() => undefined)
    slot.watch(() => undefined)
    expect(first.wait).toHaveBeenCalledTimes(1)
  })
})
