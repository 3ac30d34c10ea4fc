/** What became of one request. */
export interface Told {
  /** Milliseconds from its arrival to its first token; null when it had none. */
  readonly ttftMs: number | null
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  readonly error: 'failed' | 'refused' | null
}

export interface Run {
  readonly told: readonly Told[]
  /** Requests sent to each instance, failed attempts included. */
  readonly sent: readonly number[]
  /** Milliseconds from the first arrival to the last token. */
  readonly tookMs: number
}
