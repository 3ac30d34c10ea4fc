/** What tenants send, in virtual time. The same seed makes the same requests for every policy. */
import { random } from '../../scripts/sim/tokenizer.ts'
import { BlockNumbers, chainOf, passage, prefixOf } from './prompts.ts'

/** One request of a workload. */
export interface Arrival {
  /** Milliseconds from the start. */
  readonly at: number
  /** Numbers of all whole blocks of the prompt and the answer. */
  readonly blocks: Int32Array
  readonly prefix: Uint8Array
  readonly promptTokens: number
  readonly outputTokens: number
  /** What the Worker takes the prompt for: near the truth, never it. */
  readonly guessedTokens: number
  readonly session: string
  readonly address: string
}

/** Requests in the order they come, and how many different blocks there are in them. */
export interface Traffic {
  readonly arrivals: readonly Arrival[]
  readonly blocks: number
}

export interface Workload {
  readonly name: string
  /** @param seconds how long requests keep coming */
  readonly traffic: (seed: number, seconds: number) => Traffic
}

type Draw = () => number

/** Requests a second, steadily by chance (Poisson), each made by `requestOf`. */
const steady =
  (
    perSecond: number,
    requestOf: (next: Draw, seed: number) => Made,
    busier: (second: number) => number = () => 1,
  ): Workload['traffic'] =>
  (seed, seconds) => {
    const next = random(seed)
    const numbers = new BlockNumbers()
    const arrivals: Arrival[] = []
    let at = 0
    for (;;) {
      at += (-Math.log(1 - next()) / (perSecond * busier(at / 1000))) * 1000
      if (at >= seconds * 1000) return { arrivals, blocks: numbers.count }
      const made = requestOf(next, Math.floor(next() * 2 ** 32))
      arrivals.push(arrival(at, made, next, numbers))
    }
  }

interface Made {
  readonly prompt: readonly number[]
  readonly answer: readonly number[]
  readonly session?: string
}

function arrival(
  at: number,
  { prompt, answer, session }: Made,
  next: Draw,
  numbers: BlockNumbers,
): Arrival {
  const guessedTokens = Math.round(prompt.length * (0.85 + 0.3 * next()))
  const address = `198.51.100.${Math.floor(next() * 40)}`
  const user = session ?? `user-${Math.floor(next() * 60)}`
  const chain = chainOf(prompt.concat(answer))
  return {
    at,
    blocks: numbers.of(chain),
    prefix: prefixOf(chain, prompt.length),
    promptTokens: prompt.length,
    outputTokens: answer.length,
    guessedTokens,
    session: user,
    address,
  }
}

/** What nobody else says: a seed of its own for each. */
const ownWords = (seed: number, tokens: number): number[] => passage(seed ^ 0x5a5a5a5a, tokens)

const between = (next: Draw, least: number, most: number): number =>
  Math.round(least + next() * (most - least))

/** Many small, few huge: a Pareto distribution, cut off. */
const heavy = (next: Draw, least: number, most: number, shape: number): number =>
  Math.min(most, Math.round(least / (1 - next()) ** (1 / shape)))

const uniform = (next: Draw, seed: number): Made => ({
  prompt: passage(seed, between(next, 1200, 1800)),
  answer: ownWords(seed, between(next, 60, 100)),
})

/**
 * Conversations: one of a few system prompts, then turns that each repeat all before them. A turn
 * comes some seconds after the one before; nobody waits for a slow answer, so that every policy
 * gets the same requests.
 */
const chat =
  (sessionsPerSecond: number): Workload['traffic'] =>
  (seed, seconds) => {
    const next = random(seed)
    const numbers = new BlockNumbers()
    const made: Arrival[] = []
    // The first sessions have begun some while before, so that the load is steady from the start.
    let start = -60_000
    for (let n = 0; ; n++) {
      start += (-Math.log(1 - next()) / sessionsPerSecond) * 1000
      if (start >= seconds * 1000) break
      let prompt = passage(1 + Math.floor(next() * 6), 600)
      const turns = between(next, 3, 10)
      let at = start
      for (let turn = 0; turn < turns; turn++) {
        const answer = passage(Math.floor(next() * 2 ** 32), between(next, 50, 100))
        prompt = prompt.concat(passage(Math.floor(next() * 2 ** 32), between(next, 100, 400)))
        const one = arrival(at, { prompt, answer, session: `chat-${n}` }, next, numbers)
        if (at >= 0 && at < seconds * 1000) made.push(one)
        prompt = prompt.concat(answer)
        at += 6000 - Math.log(1 - next()) * 6000
      }
    }
    return { arrivals: made.sort((a, b) => a.at - b.at), blocks: numbers.count }
  }

const GIANT = passage(7, 3000)

/** Agents: all share one giant system prompt; what each adds is its own. */
const giant = (next: Draw, seed: number): Made => ({
  prompt: GIANT.concat(passage(seed, between(next, 300, 1500))),
  answer: ownWords(seed, between(next, 50, 90)),
})

const mixed = (next: Draw, seed: number): Made =>
  next() < 0.85
    ? {
        prompt: passage(seed, between(next, 150, 500)),
        answer: ownWords(seed, between(next, 40, 80)),
      }
    : {
        prompt: passage(seed, between(next, 4000, 7000)),
        answer: ownWords(seed, between(next, 40, 80)),
      }

const heavyTailed = (next: Draw, seed: number): Made => ({
  prompt: passage(seed, heavy(next, 150, 10_000, 1.25)),
  answer: ownWords(seed, heavy(next, 30, 500, 1.3)),
})

/** Twenty times the load within five seconds, for twenty seconds, and gone again. */
const crowd = (second: number): number => {
  const since = (second - 20) % 60
  if (since < 0 || since >= 30) return 1
  if (since < 5) return 1 + (19 * since) / 5
  return since < 25 ? 20 : 20 - (19 * (since - 25)) / 5
}

/** Rates are chosen so that eight instances are at some 75 % of what they can do with a good policy. */
export const WORKLOADS: readonly Workload[] = [
  { name: 'uniform', traffic: steady(10, uniform) },
  { name: 'heavy-tailed', traffic: steady(28, heavyTailed) },
  { name: 'chat', traffic: chat(2.4) },
  { name: 'giant-prompt', traffic: steady(15, giant) },
  { name: 'long-and-short', traffic: steady(13, mixed) },
  { name: 'flash-crowd', traffic: steady(0.7, uniform, crowd) },
]
