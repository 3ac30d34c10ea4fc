import { describe, expect, it, vi } from 'vitest'
import { HeldBodies, SMALL_BYTES } from '../../worker/ingress/held-bodies.ts'
import { takeIn } from '../../worker/ingress/intake.ts'
import { Refusal } from '../../worker/refusal.ts'

const MIB = 1024 ** 2

/** One upload, and what becomes of it. */
function upload({ declared = 0, check = async (): Promise<unknown> => undefined } = {}) {
  const bodies = new HeldBodies()
  const room = bodies.hold(0)
  const timers: { ms: number; act: () => void }[] = []
  const { promise, resolve } = Promise.withResolvers<string>()
  const checked = vi.fn<() => Promise<unknown>>(check)
  let onBytes: (bytes: number) => void = () => {}
  const taken = takeIn(
    (told) => {
      onBytes = told
      return promise
    },
    {
      declared,
      room,
      roomFor: (bytes) => bytes * 3,
      check: checked,
      after: (ms, act) => {
        const timer = { ms, act }
        timers.push(timer)
        return () => void timers.splice(timers.indexOf(timer), 1)
      },
    },
  )
  return {
    bodies,
    taken,
    checked,
    timers,
    arrive: (bytes: number) => onBytes(bytes),
    whole: resolve,
  }
}

describe('a body on its way in', () => {
  it('that is small is asked nothing about, and has no bound in time', async () => {
    const one = upload({ declared: SMALL_BYTES })
    expect(one.checked).not.toHaveBeenCalled()
    expect(one.timers).toEqual([])
    one.whole('read')
    expect(await one.taken).toBe('read')
  })

  it('that is small takes no room before it is whole: many that never come lock nobody out', () => {
    const one = upload({ declared: SMALL_BYTES })
    one.arrive(SMALL_BYTES)
    expect(() => one.bodies.hold(30 * MIB)).not.toThrow()
    expect(() => one.bodies.hold(18 * MIB)).not.toThrow()
  })

  it('that is large has its sender asked about once, while it comes', async () => {
    const one = upload({ declared: 2 * MIB })
    one.arrive(3 * MIB)
    one.arrive(4 * MIB)
    expect(one.checked).toHaveBeenCalledTimes(1)
    one.whole('read')
    expect(await one.taken).toBe('read')
    expect(one.timers, 'called off').toEqual([])
  })

  it('is not waited for when its sender may not ask', async () => {
    const revoked = new Refusal('invalid_api_key', 'No.')
    const one = upload({ declared: 26 * MIB, check: () => Promise.reject(revoked) })
    await expect(one.taken).rejects.toBe(revoked)
  })

  it('takes room as it comes, where it has not said how large it is', () => {
    const one = upload()
    one.arrive(10 * MIB)
    expect(() => one.bodies.hold(20 * MIB)).toThrow('Too many large requests')
    expect(() => one.bodies.hold(18 * MIB)).not.toThrow()
  })

  it('is refused where there is no room for it, before it is read', async () => {
    const bodies = new HeldBodies()
    bodies.hold(30 * MIB)
    const read = vi.fn<() => Promise<void>>()
    const room = bodies.hold(0)
    const after = () => () => {}
    const check = async (): Promise<void> => {}
    const intake = { declared: 20 * MIB, room, roomFor: (bytes: number) => bytes, check, after }
    await expect(takeIn(read, intake)).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(read).not.toHaveBeenCalled()
  })

  it('has not for ever', async () => {
    const one = upload({ declared: 26 * MIB })
    expect(one.timers).toMatchObject([{ ms: 300_000 }])
    one.timers[0]!.act()
    await expect(one.taken).rejects.toMatchObject({ code: 'request_timeout' })
  })
})
