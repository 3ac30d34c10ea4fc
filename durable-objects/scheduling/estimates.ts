/** What speaks for an instance by the work it has, the work it need not do, and how fast it works. */
import { uncachedTokens, weightInEffect } from './effect.ts'
import type { Ask, Candidate, Scorer } from './types.ts'

/**
 * Share of the prompt that this instance probably holds beyond what most of the field hold. What is
 * seen everywhere discriminates nobody, so a system prompt that all requests share does not draw
 * them all to a few places (L17).
 * @example of 400 tokens, instances that hold 400, 100, 100 and 0 score 3/4, 0, 0 and 0
 */
export const warmPrefix: Scorer = {
  name: 'prefix',
  score(field, { hashedTokens }) {
    const values = Array<number>(field.length).fill(0)
    const sorted = new Float64Array(field.length)
    let most = 0
    for (let i = 0; i < values.length; i++) {
      const held = field[i]?.prefixTokens ?? 0
      sorted[i] = held
      if (held > most) most = held
    }
    if (hashedTokens === 0 || most === 0) return values
    const common = sorted.sort()[(field.length - 1) >> 1] ?? 0
    for (let i = 0; i < values.length; i++) {
      const held = (field[i]?.prefixTokens ?? 0) - common
      values[i] = Math.min(1, Math.max(0, held) / hashedTokens)
    }
    return values
  },
}

/**
 * Tokens it would have to do, this request's among them, per unit of weight: its backlog of prompts,
 * answers to come, and what it would have to prefill of this prompt. A prompt of 30,000 tokens is
 * not "one request".
 */
export const fewTokens = cheapest('tokens', (field, ask) =>
  field.map((candidate) => {
    const { promptTokensAhead, outputTokensAhead } = candidate
    const ahead = promptTokensAhead + outputTokensAhead
    const own = uncachedTokens(candidate, ask) + ask.outputTokens
    return (ahead + own) / weightInEffect(candidate)
  }),
)

/** Tokens of the answer that are waited for along with the first: about a line of text. */
const FIRST_LINE_TOKENS = 16

/**
 * Milliseconds until the tenant has something to read: prefill of what is ahead and of this prompt's
 * uncached part, at this instance's own measured pace, then a line at its pace of writing. What
 * nobody has measured yet counts as the others' mean.
 */
export const soonest = cheapest('latency', (field, ask) => {
  const prefill = known(field, (candidate) => candidate.prefillMsPerToken, 1)
  const writing = known(field, (candidate) => candidate.msPerToken, 0)
  return field.map((candidate, i) => {
    const tokens = candidate.promptTokensAhead + uncachedTokens(candidate, ask)
    const reading = (prefill[i] ?? 1) * tokens
    return (reading + FIRST_LINE_TOKENS * (writing[i] ?? 0)) / candidate.ramp
  })
})

/** vLLM's own word on how full it is: nothing waiting, few running and a free KV cache score 1. */
export const idleGpu: Scorer = {
  name: 'gpu',
  score(field) {
    const room = known(field, ({ kvUse }) => (kvUse === null ? null : 1 - kvUse), 1)
    const unblocked = known(
      field,
      ({ waiting }) => (waiting === null ? null : 1 / (1 + waiting)),
      1,
    )
    const idle = known(
      field,
      ({ running, slots }) => (running === null ? null : slots / (slots + running)),
      1,
    )
    return field.map(({ ramp }, i) => {
      const value = (room[i] ?? 1) * (unblocked[i] ?? 1) * (idle[i] ?? 1)
      return Math.min(1, Math.max(0, value * ramp))
    })
  },
}

/** 1 for one that fails nothing. An instance that fails fast looks idle: only this tells (L09). */
export const fewErrors: Scorer = {
  name: 'errors',
  score: (field) => field.map(({ errorRate }) => 1 - errorRate),
}

/** Scores a cost beside the lowest of the field: 1 for that one, 1/2 for what costs twice as much. */
function cheapest(
  name: string,
  costsOf: (field: readonly Candidate[], ask: Ask) => number[],
): Scorer {
  return {
    name,
    score(field, ask) {
      const costs = costsOf(field, ask)
      let least = Infinity
      for (const cost of costs) if (cost < least) least = cost
      for (let i = 0; i < costs.length; i++) {
        const cost = costs[i] ?? 0
        costs[i] = cost > 0 ? least / cost : 1
      }
      return costs
    },
  }
}

/** A figure of each, the mean of the known ones where it is null, `otherwise` where all are. */
function known(
  field: readonly Candidate[],
  figureOf: (candidate: Candidate) => number | null,
  otherwise: number,
): number[] {
  const figures: number[] = []
  let [sum, count] = [0, 0]
  for (const candidate of field) {
    const figure = figureOf(candidate)
    figures.push(figure ?? Number.NaN)
    if (figure === null) continue
    sum += figure
    count++
  }
  if (count === field.length) return figures
  const mean = count === 0 ? otherwise : sum / count
  return figures.map((figure) => (Number.isNaN(figure) ? mean : figure))
}
