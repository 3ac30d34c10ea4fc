import { describe, expect, it, vi } from 'vitest'
import type { ArmFigures } from '../../durable-objects/fleet/contract.ts'
import { ArmCounters } from '../../durable-objects/pool/arm-figures.ts'
import { ArmReports } from '../../durable-objects/pool/arm-reports.ts'

const ARM = { model: 'qwen', arm: 'canary' }
const ENDED = {
  ending: 'done',
  ttftMs: 1,
  durationMs: 2,
  promptTokens: null,
  completionTokens: null,
} as const
const OLD_RELEASE = new TypeError('The RPC receiver does not implement the method "report".')

/** Reports that are sent when the test says that a second is over. */
function world() {
  const clock = { now: 0 }
  const counters = new ArmCounters()
  counters.configure(['qwen'])
  const timers: { ms: number; act: () => Promise<void> }[] = []
  const sleeps: { ms: number; wake: () => void }[] = []
  const send = vi.fn<(arms: readonly ArmFigures[]) => Promise<void>>(async () => undefined)
  const reports = new ArmReports({
    counters,
    send,
    after: (ms, act) => void timers.push({ ms, act }),
    sleep: (ms) => new Promise<void>((wake) => void sleeps.push({ ms, wake })),
    now: () => clock.now,
  })
  const ends = (times = 1): void => {
    for (let i = 0; i < times; i++) counters.settle(counters.counterOf(ARM)!, ENDED, 1)
  }
  const second = async (): Promise<void> => {
    clock.now += 1_000
    await timers.shift()?.act()
  }
  const told = () => send.mock.calls.map(([arms]) => arms.map(({ requests }) => requests))
  return { reports, send, timers, sleeps, ends, second, told, clock }
}

describe('a report', () => {
  it('comes a second after the first news, with all that has ended until then', async () => {
    const { ends, second, told, timers, send } = world()
    expect(timers).toEqual([])
    ends()
    ends(2)
    expect(timers.map(({ ms }) => ms)).toEqual([1_000])
    expect(send).not.toHaveBeenCalled()
    await second()
    expect(told()).toEqual([[3]])
    expect(timers, 'nothing more to tell: nothing to wait for').toEqual([])
    ends()
    await second()
    expect(told()).toEqual([[3], [1]])
  })

  it('is never begun while another one is on its way', async () => {
    const { ends, second, told, timers, send } = world()
    const { promise, resolve } = Promise.withResolvers<void>()
    send.mockImplementationOnce(() => promise)
    ends()
    const first = second()
    ends(2)
    expect(timers).toEqual([])
    resolve()
    await first
    expect(timers).toHaveLength(1)
    await second()
    expect(told()).toEqual([[1], [2]])
  })

  it('that nobody has heard goes with the next', async () => {
    const { ends, second, told, send } = world()
    send.mockRejectedValueOnce(new Error('out of reach'))
    ends(2)
    await second()
    ends()
    await second()
    expect(told()).toEqual([[2], [3]])
  })

  it('that is never answered ends after five seconds, and the next goes without it: it may have been heard', async () => {
    const { ends, second, told, send, sleeps, timers } = world()
    send.mockImplementationOnce(() => new Promise(() => {}))
    ends(5)
    const hung = second()
    ends(2)
    expect(sleeps.map(({ ms }) => ms)).toEqual([5_000])
    expect(timers).toEqual([])
    sleeps[0]!.wake()
    await hung
    await second()
    expect(told()).toEqual([[5], [2]])
  })

  it('is given up after a minute: what is told then is of then', async () => {
    const { ends, second, told, send, timers } = world()
    send.mockRejectedValue(new Error('out of reach'))
    ends(5)
    for (let i = 0; i < 61; i++) await second()
    expect(timers, 'with nothing new to tell, it rests').toEqual([])
    send.mockResolvedValue()
    ends()
    await second()
    expect(told().at(-1)).toEqual([1])
  })

  it('is not tried again on an object of the release before, until there is a new configuration', async () => {
    const { reports, ends, second, told, send, timers } = world()
    send.mockRejectedValueOnce(OLD_RELEASE)
    ends(7)
    await second()
    ends(7)
    expect(timers).toEqual([])
    reports.configure()
    ends()
    await second()
    expect(told(), 'what it has not heard is old by now').toEqual([[7], [1]])
  })

  it('goes on through a new configuration when all is well', async () => {
    const { reports, ends, second, told } = world()
    ends()
    reports.configure()
    await second()
    expect(told()).toEqual([[1]])
  })
})
