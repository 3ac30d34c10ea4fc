import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Watchdog } from '../../worker/forward/watchdog.ts'

const TIMEOUTS = { firstByteMs: 9_000, idleMs: 6_000, totalMs: 60_000 }

describe('Watchdog', () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_000_000 })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  function watch() {
    const onExpiry = vi.fn<() => void>()
    const watchdog = new Watchdog(TIMEOUTS, Date.now() + TIMEOUTS.totalMs, {
      now: Date.now,
      onExpiry,
    })
    const after = (ms: number) => {
      vi.advanceTimersByTime(ms)
      return watchdog.expired
    }
    return { watchdog, onExpiry, after }
  }

  it('ends an attempt that brings no first data frame', () => {
    const { after, onExpiry } = watch()
    expect(after(8_999)).toBeNull()
    expect(after(1)).toBe('first-byte')
    expect(onExpiry).toHaveBeenCalledTimes(1)
  })

  it('measures the silence between two data frames from the last one', () => {
    const { watchdog, after } = watch()
    expect(after(8_000)).toBeNull()
    watchdog.heard()
    expect(after(5_999)).toBeNull()
    watchdog.heard()
    expect(after(5_999), 'never early').toBeNull()
    expect(after(1_500), 'late by a quarter at most').toBe('idle')
  })

  it('is not soothed by comments, of which nobody tells it', () => {
    const { watchdog, after } = watch()
    watchdog.heard()
    expect(after(6_000)).toBe('idle')
  })

  it('ends the whole request at its deadline, however lively it is', () => {
    const { watchdog, after, onExpiry } = watch()
    for (let s = 1; s < 60; s++) {
      expect(after(1_000)).toBeNull()
      watchdog.heard()
    }
    expect(after(1_000)).toBe('total')
    expect(onExpiry).toHaveBeenCalledTimes(1)
  })

  it('lets an answer in one piece take its time up to the deadline', () => {
    const { watchdog, after } = watch()
    watchdog.waitForWhole()
    expect(after(59_999)).toBeNull()
    expect(after(1)).toBe('total')
  })

  it('is quiet once it is stopped', () => {
    const { watchdog, after, onExpiry } = watch()
    watchdog.heard()
    watchdog.stop()
    expect(after(120_000)).toBeNull()
    expect(onExpiry).not.toHaveBeenCalled()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('expires at once when its deadline has passed already', () => {
    const onExpiry = vi.fn<() => void>()
    const late = new Watchdog(TIMEOUTS, Date.now() - 1, {
      now: Date.now,
      onExpiry,
    })
    vi.advanceTimersByTime(10)
    expect(late.expired).toBe('total')
  })

  it('sets no timer for a frame: it is one assignment', () => {
    const { watchdog } = watch()
    watchdog.heard()
    const timers = vi.getTimerCount()
    for (let i = 0; i < 1_000; i++) watchdog.heard()
    expect(vi.getTimerCount()).toBe(timers)
    expect(timers).toBe(1)
  })

  it('takes riders along, whose finds still count', () => {
    const { watchdog, after } = watch()
    watchdog.alongside(() => watchdog.heard())
    expect(after(59_000), 'a frame was found in every round').toBeNull()
    expect(after(1_000)).toBe('total')
  })

  it('rings once, and goes on taking riders along until it is stopped', () => {
    const { watchdog, after, onExpiry } = watch()
    const ride = vi.fn<() => void>()
    watchdog.alongside(ride)
    expect(after(9_000)).toBe('first-byte')
    const before = ride.mock.calls.length
    expect(after(60_000)).toBe('first-byte')
    expect(ride.mock.calls.length, 'what ends after it has rung is seen as well').toBeGreaterThan(
      before,
    )
    expect(onExpiry).toHaveBeenCalledTimes(1)
    watchdog.stop()
    const stopped = ride.mock.calls.length
    after(10_000)
    expect(ride).toHaveBeenCalledTimes(stopped)
  })

  it('takes nobody along before its first look', () => {
    const { watchdog, after } = watch()
    const ride = vi.fn<() => void>()
    watchdog.alongside(ride)
    after(100)
    watchdog.stop()
    expect(ride).not.toHaveBeenCalled()
  })

  it('is late by a quarter at most where patience is short', () => {
    const onExpiry = vi.fn<() => void>()
    const short = { firstByteMs: 100, idleMs: 40, totalMs: 60_000 }
    const watchdog = new Watchdog(short, Date.now() + 60_000, { now: Date.now, onExpiry })
    watchdog.heard()
    vi.advanceTimersByTime(50)
    expect(watchdog.expired).toBe('idle')
  })

  it('in a hurry lets an instance that was given up be silent for two seconds, no longer', () => {
    const { watchdog, after, onExpiry } = watch()
    watchdog.heard()
    watchdog.hurry()
    expect(after(1_000)).toBeNull()
    expect(after(1_000)).toBe('idle')
    expect(onExpiry).toHaveBeenCalledTimes(1)
  })

  it('in a hurry lets a stream that still moves go on', () => {
    const { watchdog, after } = watch()
    watchdog.hurry()
    for (let s = 0; s < 30; s++) {
      watchdog.heard()
      expect(after(1_000)).toBeNull()
    }
    expect(after(1_000)).toBe('idle')
  })

  it('in a hurry counts the silence that there was before', () => {
    const { watchdog, after } = watch()
    watchdog.heard()
    expect(after(4_000)).toBeNull()
    watchdog.hurry()
    expect(after(1_000)).toBe('idle')
  })

  it('in a hurry is no more patient than it was', () => {
    const onExpiry = vi.fn<() => void>()
    const short = { firstByteMs: 400, idleMs: 400, totalMs: 60_000 }
    const watchdog = new Watchdog(short, Date.now() + 60_000, { now: Date.now, onExpiry })
    watchdog.heard()
    watchdog.hurry()
    vi.advanceTimersByTime(500)
    expect(watchdog.expired).toBe('idle')
  })
})
