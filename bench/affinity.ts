/**
 * What prefix affinity costs: hashing in the Worker, match and note in the pool object with 64
 * instances and a full index, its memory, its dump. Run with `node --expose-gc bench/affinity.ts`.
 */
import { AFFINITY_CAPACITY, AffinityIndex } from '../durable-objects/scheduling/affinity.ts'
import { HASH_BYTES, MAX_BLOCKS } from '../durable-objects/scheduling/blocks.ts'
import { prefixHashes } from '../worker/routing/prefix.ts'
import { median, percentile } from './figures.ts'

const INSTANCES = Array.from({ length: 64 }, (_, i) => `qwen-${i}`)
/** Blocks of a conversation of 3,500 tokens. */
const CHAT = 24

const random = lcg(1)

report('hash 100 KB of text', hashing())

const bare = heap()
const index = new AffinityIndex({ capacity: AFFINITY_CAPACITY })
const chats: Chat[] = []
/** What every instance holds, and what only begins like it. */
const shared = hashes(MAX_BLOCKS)
const sharedHead = shared.subarray(0, 16 * HASH_BYTES)
while (chats.length * CHAT < 2 * AFFINITY_CAPACITY) {
  const chat = { prompt: hashes(CHAT), instance: oneOf(INSTANCES) }
  index.note(chat.prompt, chat.instance)
  chats.push(chat)
}
for (const instance of INSTANCES) index.note(shared, instance)
// Only now: what the chats themselves take is not the index's.
const recent = chats.splice(-2_000)
chats.length = 0
console.log(`full index, ${index.size} holdings: ${megabytes(heap() - bare)}`)

report(
  'chat of 24 blocks, match',
  times(
    () => oneOf(recent),
    ({ prompt }) => index.match(prompt),
  ),
)
report(
  'chat of 24 blocks, note where it was',
  times(
    () => oneOf(recent),
    ({ prompt, instance }) => index.note(prompt, instance),
  ),
)
const forked = (): Chat => ({
  prompt: Uint8Array.from([...sharedHead, ...hashes(MAX_BLOCKS - 16)]),
  instance: oneOf(INSTANCES),
})
report(
  '16 blocks that all 64 hold and 48 new ones, match',
  times(forked, ({ prompt }) => index.match(prompt)),
)
report(
  '16 blocks that all 64 hold and 48 new ones, note',
  times(forked, ({ prompt, instance }) => index.note(prompt, instance)),
)
for (const instance of INSTANCES) index.note(shared, instance)
report(
  '64 blocks that all 64 hold, match',
  times(
    () => shared,
    (prompt) => index.match(prompt),
  ),
)
report(
  '64 blocks that all 64 hold, note',
  times(
    () => oneOf(INSTANCES),
    (instance) => index.note(shared, instance),
  ),
)

const dump = index.dump()
report(
  `dump, ${megabytes(dump.byteLength)}`,
  times(
    () => index,
    (full) => full.dump(),
    10,
  ),
)
report(
  'restore',
  times(
    () => dump,
    (bytes) => AffinityIndex.restore(bytes, { capacity: AFFINITY_CAPACITY }),
    10,
  ),
)
const one = INSTANCES[0] ?? ''
report(
  'forget one of 64',
  times(
    () => one,
    (instance) => index.forget(instance),
    1,
  ),
)

interface Chat {
  readonly prompt: Uint8Array
  readonly instance: string
}

function hashing(): number[] {
  const letters = Array.from({ length: 100_000 }, () => String.fromCharCode(32 + random() * 90))
  // As it comes out of the parser: one flat text.
  const body = JSON.parse(
    JSON.stringify({ messages: [{ role: 'user', content: letters.join('') }] }),
  ) as Record<string, unknown>
  const scope = { path: '/v1/chat/completions', model: 'qwen', salt: 'x' }
  return times(
    () => body,
    (asked) => prefixHashes(asked, scope),
    300,
  )
}

/** Random hashes; `count` of them. */
function hashes(count: number): Uint8Array {
  return Uint8Array.from({ length: count * HASH_BYTES }, () => random() * 256)
}

function oneOf<T>(list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T
}

/** Microseconds of each call; preparing does not count. */
function times<T>(prepare: () => T, act: (input: T) => unknown, rounds = 5_000): number[] {
  return Array.from({ length: rounds }, () => {
    const input = prepare()
    const start = process.hrtime.bigint()
    act(input)
    return Number(process.hrtime.bigint() - start) / 1_000
  })
}

function report(what: string, taken: readonly number[]): void {
  const [half, most] = [median(taken), percentile(taken, 0.99)]
  console.log(`${what}: ${half.toFixed(1)} µs median, ${most.toFixed(1)} µs p99`)
}

/** Bytes in use, typed arrays included. */
function heap(): number {
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`
}

/** A small seeded generator: numbers in [0, 1). */
function lcg(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
