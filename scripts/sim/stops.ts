import type { ScriptToken } from './script.ts'

export interface StopRules {
  readonly stops: readonly string[]
  readonly stopIds: readonly number[]
  readonly includeStop: boolean
  readonly minTokens: number
}

export interface Stopped {
  readonly tokens: readonly ScriptToken[]
  readonly hit: boolean
  /** The stop string or token id that ended the answer; null where none did. */
  readonly reason: string | number | null
}

/**
 * Ends an answer at its first stop string or stop token, as vLLM's detokenizer does: text that may
 * still become a stop string is held back, so with stops set the deltas lag behind their tokens.
 */
export function applyStops(tokens: readonly ScriptToken[], rules: StopRules): Stopped {
  const { stops, stopIds, includeStop, minTokens } = rules
  if (stops.length === 0 && stopIds.length === 0) return { tokens, hit: false, reason: null }
  const holdBack = includeStop ? 0 : Math.max(0, ...stops.map((stop) => stop.length - 1))
  const shown: ScriptToken[] = []
  let text = ''
  let sent = 0
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'content' && token.kind !== 'end') {
      shown.push(token)
      continue
    }
    if (i >= minTokens && stopIds.includes(token.id)) {
      return {
        tokens: [...shown, { ...token, delta: text.slice(sent) }],
        hit: true,
        reason: token.id,
      }
    }
    const before = text.length
    text += token.delta
    const found = i < minTokens ? null : firstStop(text, before, stops)
    if (found !== null) {
      const end = found.at + (includeStop ? found.stop.length : 0)
      const delta = text.slice(sent, Math.max(sent, end))
      return { tokens: [...shown, { ...token, delta }], hit: true, reason: found.stop }
    }
    const isLast = i === tokens.length - 1
    const safe = isLast ? text.length : Math.max(sent, text.length - holdBack)
    shown.push({ ...token, delta: text.slice(sent, safe) })
    sent = safe
  }
  return { tokens: shown, hit: false, reason: null }
}

/** The stop string that begins first in the text, looking only where new text could complete one. */
function firstStop(
  text: string,
  before: number,
  stops: readonly string[],
): { at: number; stop: string } | null {
  let best: { at: number; stop: string } | null = null
  for (const stop of stops) {
    const at = text.indexOf(stop, Math.max(0, before - stop.length + 1))
    if (at !== -1 && (best === null || at < best.at)) best = { at, stop }
  }
  return best
}
