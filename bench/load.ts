/** The load generator, in a process of its own: does what it is told over IPC, and checks every answer. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Connection, type Target } from './connection.ts'
import { cpuTicks } from './process-cpu.ts'
import { Reply } from './reply.ts'
import type { Order } from './workload.ts'

/** One request at a time, the targets in turn. */
export interface LatencyJob {
  readonly kind: 'latency'
  readonly targets: readonly Target[]
  readonly order: Order
  /** Requests to each target. */
  readonly requests: number
  /** Before those, and not measured. */
  readonly warmUp: number
}

/** As many requests as go through: each connection asks again as soon as it has its answer. */
export interface ThroughputJob {
  readonly kind: 'throughput'
  readonly target: Target
  readonly order: Order
  readonly connections: number
  readonly warmUpMs: number
  readonly windowMs: number
}

/** Paced streams side by side; CPU time and frames are read at both ends of a window inside of them. */
export interface RelayJob {
  readonly kind: 'relay'
  readonly target: Target
  readonly order: Order
  readonly streams: number
  readonly settleMs: number
  readonly windowMs: number
  /** Whose CPU time. */
  readonly pid: number
}

export type Job = LatencyJob | ThroughputJob | RelayJob

export interface Results {
  /** Milliseconds to the first content, for each target in its order. */
  readonly latency: readonly (readonly number[])[]
  /** Answers completed within the window, and how long that was in milliseconds. */
  readonly throughput: { readonly answers: number; readonly ms: number }
  readonly relay: { readonly frames: number; readonly ticks: number; readonly ms: number }
}

export type Answer =
  | { readonly ok: true; readonly result: Results[Job['kind']] }
  | { readonly ok: false; readonly message: string }

/** So that what a row still does after its answer (settling, say) is not the next row's wait. */
const PAUSE_MS = 2

async function latency(job: LatencyJob): Promise<Results['latency']> {
  const rows = await Promise.all(
    job.targets.map(async (target) => ({
      line: await Connection.open(target),
      times: [] as number[],
    })),
  )
  const turns = [...rows]
  for (let turn = -job.warmUp; turn < job.requests; turn++) {
    // Another order each time: nobody always comes after the same neighbour.
    shuffle(turns)
    for (const { line, times } of turns) {
      const ms = await line.ask(job.order)
      if (turn >= 0) times.push(ms)
      await sleep(PAUSE_MS)
    }
  }
  for (const { line } of rows) line.close()
  return rows.map(({ times }) => times)
}

function shuffle(items: unknown[]): void {
  for (let i = items.length - 1; i > 0; i--) {
    items.push(...items.splice(Math.floor(Math.random() * (i + 1)), 1))
  }
}

async function throughput(job: ThroughputJob): Promise<Results['throughput']> {
  const { target, order, warmUpMs, windowMs } = job
  const lines = await opened(target, job.connections)
  const from = performance.now() + warmUpMs
  const to = from + windowMs
  let answers = 0
  const repeat = async (line: Connection) => {
    for (let now = 0; now < to;) {
      await line.ask(order)
      now = performance.now()
      if (now >= from && now < to) answers++
    }
    line.close()
  }
  await Promise.all(lines.map(repeat))
  return { answers, ms: windowMs }
}

async function relay(job: RelayJob): Promise<Results['relay']> {
  const { target, order, streams, settleMs, windowMs, pid } = job
  const lines = await opened(target, streams)
  const replies: Reply[] = []
  const all = lines.map(async (line, i) => {
    const reply = new Reply(target.proof)
    replies.push(reply)
    await sleep((i * order.everyMs) / streams) // spread over a period: real streams keep no time together
    await line.ask(order, reply)
  })
  const read = () => ({
    frames: replies.reduce((sum, { frames }) => sum + frames, 0),
    ticks: cpuTicks(pid),
    at: performance.now(),
  })
  const watch = async () => {
    await sleep(settleMs)
    const first = read()
    await sleep(windowMs)
    const last = read()
    if (replies.some(({ frames }) => frames >= order.frames)) {
      throw new Error('a stream was over before the window was: give it more frames')
    }
    const { frames, ticks, at } = first
    return { frames: last.frames - frames, ticks: last.ticks - ticks, ms: last.at - at }
  }
  const [measured] = await Promise.all([watch(), ...all])
  for (const line of lines) line.close()
  return measured
}

const opened = (target: Target, count: number): Promise<Connection[]> =>
  Promise.all(Array.from({ length: count }, () => Connection.open(target)))

function work(job: Job): Promise<Results[Job['kind']]> {
  switch (job.kind) {
    case 'latency':
      return latency(job)
    case 'throughput':
      return throughput(job)
    case 'relay':
      return relay(job)
  }
}

process.on('message', (job: Job) => {
  work(job).then(
    (result) => process.send?.({ ok: true, result } satisfies Answer),
    (error: Error) => process.send?.({ ok: false, message: error.message } satisfies Answer),
  )
})
process.on('disconnect', () => process.exit()) // whoever forked us is gone
