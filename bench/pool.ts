/**
 * `npm run bench:pool`: what one pool object can do and what it weighs. The choice alone, in this
 * process: 64 instances, 5,000 leases, a full prefix index, `adaptive`. And acquire and release by RPC
 * on one object in workerd, with the same 64 instances.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import type { InstanceConfig, PoolConfig } from '../durable-objects/fleet/snapshot.ts'
import type { Demand } from '../durable-objects/pool/contract.ts'
import { Dispatcher } from '../durable-objects/pool/dispatcher.ts'
import type { Vitals } from '../durable-objects/pool/vitals.ts'
import { adminOf, untilReady } from '../scripts/local/admin.ts'
import { bundleWorker } from '../scripts/local/bundle.ts'
import { startRouter } from '../scripts/local/router.ts'
import { median, percentile } from './figures.ts'
import { startUpstream } from './forked.ts'
import { MODEL } from './workload.ts'

const INSTANCES = 64
const LEASES = 5_000
const BLOCKS = 24
const SAMPLES = 20_000
const PAIRS = 20_000
const ROUNDS = 5
const RESULT = new URL('results/pool.md', import.meta.url)
const READY_MS = 15_000
const MIB = 1024 ** 2

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const heapBytes = (): number => {
  collect()
  const { heapUsed, arrayBuffers, external } = process.memoryUsage()
  return heapUsed + Math.max(arrayBuffers, external)
}

const quick = process.argv.includes('--quick')
const lines: string[] = []
const say = (line: string): void => {
  console.log(line)
  lines.push(line)
}

const instances: InstanceConfig[] = Array.from({ length: INSTANCES }, (_, i) => ({
  instance: `gpu-${i}`,
  process: `site 10.0.0.${i}:8001 ${MODEL}`,
  base: `https://site.example/i/gpu-${i}`,
  site: 'site',
  secrets: [],
  slots: 256,
  weight: 1,
  lastResort: false,
}))
const config: PoolConfig = {
  version: 1,
  pool: 'bench',
  servedAs: MODEL,
  policy: 'adaptive',
  health: { everyMs: 5_000, timeoutMs: 2_000, downAfter: 3, upAfter: 2 },
  instances,
}

let seed = 1
/** A linear congruential generator: the same run every time. */
const random = (): number => {
  seed = (seed * 1_664_525 + 1_013_904_223) >>> 0
  return seed / 2 ** 32
}

/** Well spread, as the Worker's hashes are: MurmurHash3's last step. */
function mixed(value: number): number {
  const once = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2ae35)
  return twice ^ (twice >>> 16)
}

function demand(i: number): Demand {
  const prefix = new Uint8Array(BLOCKS * 8)
  const words = new Uint32Array(prefix.buffer)
  // A conversation in ten goes on; the others are new.
  const conversation = random() < 0.1 ? Math.floor(random() * i) : i
  for (let at = 0; at < words.length; at++) words[at] = mixed(conversation * words.length + at)
  return {
    contract: 1,
    fleet: 1,
    request: `req_${i}`,
    avoid: [],
    remainingMs: 60_000,
    work: {
      tenant: `tenant-${i % 100}`,
      class: 'standard',
      session: `tenant-${i % 100}`,
      address: '',
      place: null,
      promptTokens: 3_500,
      outputTokens: null,
      prefix,
    },
  }
}

const WELL: Vitals = {
  stateForWork: 'ready',
  ramp: 1,
  errorRate: 0,
  gauges: { running: 70, waiting: 2, kvUse: 0.6 },
  readAt: 1,
  maxModelLen: 32_768,
}

/** The choice alone. */
function decisions(): { readonly micros: readonly number[]; readonly heap: number } {
  const empty = heapBytes()
  const dispatcher = new Dispatcher({
    now: Date.now,
    random,
    health: { ward: () => WELL, take: () => 1, record: () => undefined },
  })
  dispatcher.configure(config)
  const held: number[] = []
  const take = (i: number): void => {
    const granted = dispatcher.acquire(demand(i))
    if (granted.kind !== 'granted') throw new Error(granted.kind)
    held.push(granted.lease)
  }
  const giveBack = (at: number): void => {
    const [lease = -1] = held.splice(at, 1)
    dispatcher.release(lease, {
      ending: 'done',
      ttftMs: 400,
      durationMs: 4_000,
      promptTokens: 3_500,
      completionTokens: 200,
      counted: 'reported',
    })
  }
  const { affinity } = dispatcher.chooser
  let i = 0
  while (held.length < LEASES) take(i++)
  for (let before = -1; affinity.size > before;) {
    before = affinity.size
    for (let n = 0; n < 2_000; n++) {
      take(i++)
      giveBack(Math.floor(random() * held.length))
    }
  }
  const heap = heapBytes() - empty
  const micros: number[] = []
  for (let n = 0; n < (quick ? 1_000 : SAMPLES); n++) {
    const asked = demand(i++)
    const begun = performance.now()
    const granted = dispatcher.acquire(asked)
    micros.push((performance.now() - begun) * 1_000)
    if (granted.kind !== 'granted') throw new Error(granted.kind)
    held.push(granted.lease)
    giveBack(Math.floor(random() * held.length))
  }
  say(
    `With ${INSTANCES} instances, ${dispatcher.ledger.size} leases and ${affinity.size} holdings in the prefix index:`,
  )
  return { micros, heap }
}

interface Rates {
  readonly pairs: readonly number[]
  readonly floor: readonly number[]
}

/**
 * Acquire and release by RPC, on one object, and the same calls of an object that does nothing, by
 * turns: pairs per second, one figure for each round.
 */
async function pairsPerSecond(stack: AsyncDisposableStack): Promise<Rates> {
  const upstream = await startUpstream(stack)
  const adminToken = 'operator'
  const router = await startRouter({
    host: '127.0.0.1',
    port: 0,
    storage: null,
    code: await bundleWorker(fileURLToPath(new URL('pool-entry.js', import.meta.url))),
    secrets: { ADMIN_TOKEN: adminToken, KEY_SIGNING_SECRET: 'a-signing-secret-for-benchmarks' },
  })
  stack.defer(() => router.stop())
  const admin = adminOf(router.url, adminToken)
  await admin.applyFleet(
    stringify({
      pools: {
        bench: {
          served_as: MODEL,
          instances: instances.map(({ instance: id, slots }, i) => ({
            id,
            url: `http://127.0.0.${i + 1}:${upstream}`,
            slots,
          })),
        },
      },
      models: { [MODEL]: { arms: [{ pool: 'bench' }] } },
    }),
  )
  const missing = await untilReady(() => admin.pools(), READY_MS)
  if (missing.length > 0) throw new Error(missing.join('\n'))
  const run = async (what: 'pairs' | 'floor', count: number): Promise<number> => {
    const begun = performance.now()
    const answer = await fetch(`http://127.0.0.1:${router.workerPort}/__bench/${what}/${count}`)
    if ((await answer.text()) !== 'done') throw new Error('the pairs were not made')
    return (count * 1_000) / (performance.now() - begun)
  }
  const [pairs, floor]: [number[], number[]] = [[], []]
  for (const what of ['pairs', 'floor'] as const) await run(what, 1_000)
  for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
    pairs.push(await run('pairs', quick ? 2_000 : PAIRS))
    floor.push(await run('floor', quick ? 2_000 : PAIRS))
  }
  return { pairs, floor }
}

const verdict = (met: boolean): string => (met ? 'must met' : 'must missed')

async function main(): Promise<void> {
  await using stack = new AsyncDisposableStack()
  say('# Pool object\n')
  say('Written by `npm run bench:pool`.\n')
  const { micros, heap } = decisions()
  const [p50, p99] = [median(micros), percentile(micros, 0.99)]
  say('')
  say('| what | must | goal | measured | verdict |')
  say('| --- | ---: | ---: | ---: | --- |')
  say(`| \`acquire\`, median | ≤ 60 µs | ≤ 30 µs | ${p50.toFixed(1)} µs | ${verdict(p50 <= 60)} |`)
  say(`| \`acquire\`, p99 | – | – | ${p99.toFixed(1)} µs | – |`)
  const mib = heap / MIB
  say(`| memory | ≤ 48 MiB | ≤ 32 MiB | ${mib.toFixed(1)} MiB | ${verdict(mib <= 48)} |`)
  const { pairs, floor } = await pairsPerSecond(stack)
  const [rate, most] = [median(pairs), median(floor)]
  const perSecond = (figure: number): string => `${Math.round(figure).toLocaleString('en')}/s`
  say(
    `| acquire and release by RPC, one object in workerd | ≥ 5,000/s | – | ${perSecond(rate)} | ${verdict(rate >= 5_000)} |`,
  )
  say(`| the same calls of an object that does nothing | – | – | ${perSecond(most)} | – |`)
  say(`| pairs ÷ those | – | – | ${(rate / most).toFixed(2)} | – |`)
  if (quick) return
  await mkdir(new URL('.', RESULT), { recursive: true })
  await writeFile(RESULT, `${lines.join('\n')}\n`)
}

await main()
process.exit(0)
