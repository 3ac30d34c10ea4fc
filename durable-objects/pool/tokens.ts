import type { Settlement, TokenTotals } from './contract.ts'

/** What a settlement says of tokens. A lost lease says nothing, a Worker of the release before less. */
export type Counted = Partial<
  Pick<Settlement, 'promptTokens' | 'completionTokens' | 'cachedTokens' | 'counted'>
>

/** Adds up the tokens of settled requests. What was only estimated never mixes with what was counted. */
export class TokenSums {
  #prompt = 0
  #completion = 0
  #cached = 0
  #estimated = 0

  add({ promptTokens, completionTokens, cachedTokens, counted }: Counted): void {
    const [prompt, completion] = [promptTokens ?? 0, completionTokens ?? 0]
    if (counted === 'estimate') {
      this.#estimated += prompt + completion
      return
    }
    this.#prompt += prompt
    this.#completion += completion
    this.#cached += cachedTokens ?? 0
  }

  /** Goes on from what was counted before. */
  restore({ prompt = 0, completion = 0, cached = 0, estimated = 0 }: Partial<TokenTotals>): void {
    this.#prompt += prompt
    this.#completion += completion
    this.#cached += cached
    this.#estimated += estimated
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
