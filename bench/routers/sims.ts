/** The instances behind one router, in a process of their own, where their faults are played too. */
import { isInference } from '../../scripts/sim/endpoints.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { answering } from './child.ts'
import { INSTANCES, KV_BLOCKS, PROFILE, SICK, type Event, type Turn } from './fleets.ts'
import { serveTokenize } from './tokenize.ts'
import { MODEL } from './workloads.ts'

export type Question =
  | { readonly kind: 'start' }
  /** Plays the events by the clock, and counts prefix hits from `from` on. `startAt`: Unix milliseconds. */
  | {
      readonly kind: 'play'
      readonly startAt: number
      readonly from: number
      readonly shareFrom: number | null
      readonly events: readonly Event[]
    }
  | { readonly kind: 'count' }

export interface Counted {
  /** Prompt tokens asked for, and found in a cache. */
  readonly queries: number
  readonly hits: number
  /** Requests that reached each instance since `shareFrom`, retries included. */
  readonly reached: readonly number[]
}

const sims: Sim[] = []
let before = { queries: 0, hits: 0 }
/** What instances had counted that are gone. */
const gone = { queries: 0, hits: 0 }
let shareAt = Infinity

const start = (port: number): Promise<Sim> =>
  startSim({
    model: MODEL,
    port,
    controlPort: null,
    profile: PROFILE,
    kvBlocks: KV_BLOCKS,
    keepBodies: false,
  })

function counts(): { readonly queries: number; readonly hits: number } {
  const sum = { ...gone }
  for (const sim of sims) {
    const { prefixQueries, prefixHits } = sim.state()
    sum.queries += prefixQueries
    sum.hits += prefixHits
  }
  return sum
}

async function act(turn: Turn): Promise<void> {
  const sick = sims[SICK]
  if (!sick) return
  switch (turn) {
    case 'fails-fast':
      return sick.setFault({ kind: 'status', status: 503, delayMs: 5 })
    case 'freezes':
      return sick.setFault({ kind: 'freeze' })
    case 'slows':
      return sick.setFault({ kind: 'slow', factor: 2 })
    case 'dies': {
      const { prefixQueries, prefixHits } = sick.state()
      gone.queries += prefixQueries
      gone.hits += prefixHits
      sims.splice(SICK, 1, await closed(sick))
      return
    }
    case 'returns':
      sims.splice(SICK, 1, await start(sick.port))
  }
}

/** @returns it, as one that has counted nothing */
async function closed(sim: Sim): Promise<Sim> {
  await sim.close()
  const state = { ...sim.state(), prefixQueries: 0, prefixHits: 0 }
  return { ...sim, port: sim.port, controlUrl: null, state: () => state, requests: () => [] }
}

function reached(): number[] {
  return sims.map((sim) => {
    const since = sim
      .requests()
      .filter(({ path, arrivedAt }) => isInference(path) && arrivedAt >= shareAt)
    return since.length
  })
}

serveTokenize()
answering(async (question: Question) => {
  switch (question.kind) {
    case 'start':
      for (let i = 0; i < INSTANCES; i++) sims.push(await start(0))
      return sims.map(({ port }) => port)
    case 'play': {
      const { startAt, from, shareFrom, events } = question
      const at = (ms: number, run: () => void) => setTimeout(run, startAt + ms - Date.now())
      at(from, () => (before = counts()))
      shareAt = shareFrom === null ? Infinity : startAt + Math.max(from, shareFrom)
      for (const event of events) at(event.at, () => void act(event.turn))
      return null
    }
    case 'count': {
      const { queries, hits } = counts()
      return {
        queries: queries - before.queries,
        hits: hits - before.hits,
        reached: reached(),
      } satisfies Counted
    }
  }
})
