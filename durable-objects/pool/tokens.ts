import type { Settlement, TokenTotals } from './contract.ts'
import { isCount } from './counts.ts'

/** What a settlement says of tokens. A lost lease says nothing, a Worker of the release before less. */
export type Counted = Partial<
  Pick<Settlement, 'promptTokens' | 'completionTokens' | 'cachedTokens' | 'counted'>
>

const countOf = (said: unknown): number => (isCount(said) ? said : 0)

/** Adds up the tokens of settled requests. What was only estimated never mixes with what was counted. */
export class TokenSums {
  #prompt = 0
  #completion = 0
  #cached = 0
  #estimated = 0

  add({ promptTokens, completionTokens, cachedTokens, counted }: Counted): void {
    const [prompt, completion] = [countOf(promptTokens), countOf(completionTokens)]
    if (counted === 'estimate') {
      this.#estimated += prompt + completion
      return
    }
    this.#prompt += prompt
    this.#completion += completion
    this.#cached += countOf(cachedTokens)
  }

  /** Goes on from what was counted before; what an earlier release stored may be no number. */
  restore({ prompt, completion, cached, estimated }: Partial<TokenTotals>): void {
    this.#prompt += countOf(prompt)
    this.#completion += countOf(completion)
    this.#cached += countOf(cached)
    this.#estimated += countOf(estimated)
  }

  get totals(): TokenTotals {
    return {
      prompt: this.#prompt,
      completion: this.#completion,
      cached: this.#cached,
      estimated: this.#estimated,
    }
  }
}
