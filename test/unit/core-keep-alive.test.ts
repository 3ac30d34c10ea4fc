import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { KeepAlive } from '../../worker/forward/keep-alive.ts'

describe('KeepAlive', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /** A reader who takes all that comes, or nothing until he is told to. */
  function writing(everyMs: number, { reads = true } = {}) {
    const got: string[] = []
    let take = (): void => undefined
    const taken = reads ? Promise.resolve() : new Promise<void>((resolve) => (take = resolve))
    const tenant = new WritableStream<Uint8Array>({
      write: async (piece) => {
        got.push(Buffer.from(piece).toString())
        await taken
      },
    })
    return { keepAlive: new KeepAlive(tenant, everyMs), got, tenant, take: () => take() }
  }
  const passes = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)

  it('is a comment of one line, at once (L23, L24)', async () => {
    const { got, keepAlive } = writing(10_000)
    await passes(0)
    expect(got).toEqual([': ping\n'])
    await keepAlive.stop()
  })

  it.each([
    { everyMs: 0, pings: 601 },
    { everyMs: 20, pings: 601 },
    { everyMs: 5_000, pings: 13 },
    { everyMs: 15_000, pings: 5 },
    { everyMs: 110_000, pings: 5 },
  ])(
    'goes on in a steady rhythm, every 15 s at least (L23) and every 0.1 s at most: $everyMs',
    async ({ everyMs, pings }) => {
      const { got, keepAlive } = writing(everyMs)
      await passes(60_000)
      expect(got).toHaveLength(pings)
      await keepAlive.stop()
    },
  )

  it('is silent once it is stopped, and leaves the stream to the next writer', async () => {
    const { got, keepAlive, tenant } = writing(1_000)
    await passes(0)
    await keepAlive.stop()
    await passes(60_000)
    expect(got).toHaveLength(1)
    expect(vi.getTimerCount()).toBe(0)
    expect(tenant.locked).toBe(false)
  })

  it('does not pile up for a reader who takes nothing', async () => {
    const { got, keepAlive, take } = writing(1_000, { reads: false })
    await passes(60_000)
    expect(got).toEqual([': ping\n'])
    const stopped = vi.fn<() => void>()
    void keepAlive.stop().then(stopped)
    await passes(0)
    expect(stopped, 'the stream is not free before').not.toHaveBeenCalled()
    take()
    await passes(0)
    expect(stopped).toHaveBeenCalled()
    expect(got, 'none was waiting in line').toEqual([': ping\n'])
  })

  it('does not mind a reader who has left', async () => {
    const tenant = new WritableStream<Uint8Array>({
      write: () => {
        throw new Error('gone')
      },
    })
    const keepAlive = new KeepAlive(tenant, 1_000)
    await passes(5_000)
    await expect(keepAlive.stop()).resolves.toBeUndefined()
  })
})
