/**
 * The load generator, in a process of its own: sends every arrival to every router at its moment, whatever
 * became of those before (an open loop).
 */
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { answering } from './child.ts'
import { ask, type Seen, type Target } from './stream.ts'
import type { Arrival } from './workloads.ts'

export interface LoadJob {
  readonly targets: readonly Target[]
  readonly arrivals: readonly Arrival[]
  /** Unix milliseconds. */
  readonly startAt: number
}

/** What the clients saw of each target, in the order of the arrivals. */
export type Load = readonly (readonly Seen[])[]

answering(async ({ targets, arrivals, startAt }: LoadJob): Promise<Load> => {
  const agents = targets.map(() => new Agent({ keepAlive: true, maxSockets: Infinity }))
  const seen: Promise<Seen>[][] = targets.map(() => [])
  const clock = () => performance.timeOrigin + performance.now() - startAt
  for (const [turn, { at, body }] of arrivals.entries()) {
    const wait = at - clock()
    if (wait > 1) await sleep(wait)
    // Another one first each time: nobody always comes after the same neighbour.
    for (let i = 0; i < targets.length; i++) {
      const which = (turn + i) % targets.length
      const [target, agent] = [targets[which], agents[which]]
      if (target && agent) seen[which]?.push(ask(target, body, { agent, clock }))
    }
  }
  const all = await Promise.all(seen.map((each) => Promise.all(each)))
  for (const agent of agents) agent.destroy()
  return all
})
