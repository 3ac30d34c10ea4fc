/** What tenants send. The same seed makes the same requests at the same moments for every router. */
import { random } from '../../scripts/sim/tokenizer.ts'
import { simScript } from '../../scripts/sim/script.ts'
import { word } from '../../scripts/sim/words.ts'

export const MODEL = 'bench'

/** One request. */
export interface Arrival {
  /** Milliseconds from the start. */
  readonly at: number
  /** JSON. */
  readonly body: string
}

export interface Workload {
  readonly name: string
  readonly about: string
  readonly arrivals: (seed: number, seconds: number) => readonly Arrival[]
}

interface Message {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

type Draw = () => number

const between = (next: Draw, least: number, most: number): number =>
  Math.round(least + next() * (most - least))

/** Many small, few huge: a Pareto distribution, cut off. */
const heavy = (next: Draw, least: number, most: number, shape: number): number =>
  Math.min(most, Math.round(least / (1 - next()) ** (1 / shape)))

/** Until the next event of a Poisson process. */
const waitMs = (next: Draw, perSecond: number): number => (-Math.log(1 - next()) / perSecond) * 1000

/** Some `tokens` tokens of prose, no two alike. */
const prose = (next: Draw, tokens: number): string =>
  Array.from({ length: tokens }, (_, at) => word(next, at)).join('')

const bodyOf = (messages: readonly Message[], maxTokens: number | null) => ({
  model: MODEL,
  messages,
  stream: true,
  stream_options: { include_usage: true },
  ...(maxTokens !== null && { max_tokens: maxTokens }),
})

/** What the simulator will answer: history has to repeat it word for word. */
const answerTo = (messages: readonly Message[]): string =>
  (simScript(bodyOf(messages, null))[0]?.tokens ?? []).map(({ delta }) => delta).join('')

const SYSTEM_PROMPTS = 6
const SYSTEM_TOKENS = 500
const CHATS_PER_SECOND = 1.7
const THINK_MS = 6_000
/** Conversations have begun this long before the start, so that the load is steady from there on. */
const LEAD_MS = 45_000

/**
 * Conversations: one of a few system prompts, then turns that each repeat all before them. A turn comes
 * some seconds after the one before; nobody waits for a slow answer, so that every router gets the same.
 */
function chat(seed: number, seconds: number): readonly Arrival[] {
  const next = random(seed)
  const systems = Array.from({ length: SYSTEM_PROMPTS }, () => prose(next, SYSTEM_TOKENS))
  const made: Arrival[] = []
  for (let start = -LEAD_MS; start < seconds * 1000; start += waitMs(next, CHATS_PER_SECOND)) {
    const own = random(Math.floor(next() * 2 ** 32))
    const system = systems[Math.floor(own() * SYSTEM_PROMPTS)] ?? ''
    const messages: Message[] = [{ role: 'system', content: system }]
    let at = start
    for (let turns = between(own, 3, 9); turns > 0 && at < seconds * 1000; turns--) {
      messages.push({ role: 'user', content: prose(own, between(own, 100, 400)) })
      if (at >= 0) made.push({ at, body: JSON.stringify(bodyOf(messages, null)) })
      messages.push({ role: 'assistant', content: answerTo(messages) })
      at += THINK_MS / 2 + waitMs(own, 2_000 / THINK_MS)
    }
  }
  return made.sort((a, b) => a.at - b.at)
}

const HEAVY_PER_SECOND = 13

/** Prompts that share nothing, most of them short and a few very long. */
function heavyTailed(seed: number, seconds: number): readonly Arrival[] {
  const next = random(seed)
  const made: Arrival[] = []
  for (
    let at = waitMs(next, HEAVY_PER_SECOND);
    at < seconds * 1000;
    at += waitMs(next, HEAVY_PER_SECOND)
  ) {
    const content = prose(next, heavy(next, 250, 6_000, 1.4))
    const answer = heavy(next, 20, 300, 1.3)
    made.push({ at, body: JSON.stringify(bodyOf([{ role: 'user', content }], answer)) })
  }
  return made
}

export const WORKLOADS = {
  chat: {
    name: 'multi-turn chat',
    about: `conversations of 3 to 9 turns, each on one of ${SYSTEM_PROMPTS} system prompts of ${SYSTEM_TOKENS} tokens; 100 to 400 new tokens a turn, ${THINK_MS / 1000} s between turns, no \`max_tokens\``,
    arrivals: chat,
  },
  heavy: {
    name: 'heavy-tailed',
    about: `prompts of 250 to 6,000 tokens (Pareto, shape 1.4) that share nothing, ${HEAVY_PER_SECOND} a second; answers of 20 to 300 tokens (Pareto, shape 1.3), asked for by \`max_tokens\``,
    arrivals: heavyTailed,
  },
} as const satisfies Record<string, Workload>
