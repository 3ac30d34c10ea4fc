/**
 * What can be made to go wrong with one simulated instance. One fault at a time, live. A frame is an
 * SSE frame, or a message of a WebSocket; open WebSockets meet a fault as soon as it is set.
 */
export type FaultKind =
  /** The listener is closed: connections are refused; streams under way go on. */
  | { readonly kind: 'refuse' }
  /** Requests are read and never answered. */
  | { readonly kind: 'hang' }
  /** The engine stands still: streams stop, `/metrics` repeats itself, `/health` says 200. */
  | { readonly kind: 'freeze' }
  /** An error instead of an answer, after `delayMs` (default 5) real milliseconds. */
  | { readonly kind: 'status'; readonly status: number; readonly delayMs?: number }
  /** An error frame inside a 200 stream after `afterChunks` frames (default 0: the first frame). */
  | { readonly kind: 'stream-error'; readonly code: number; readonly afterChunks?: number }
  /** The connection is reset after `afterChunks` frames; `midFrame`: with half of the next sent. */
  | { readonly kind: 'cut'; readonly afterChunks: number; readonly midFrame?: boolean }
  /** After `afterChunks` frames (default 0) nothing more is said; the connection and its slot stay. */
  | { readonly kind: 'silence'; readonly afterChunks?: number }
  /** The first token comes `ms` real milliseconds later than it would: a long prefill. */
  | { readonly kind: 'late-start'; readonly ms: number }
  /** A WebSocket is closed with this code after `afterChunks` messages (default 0). */
  | { readonly kind: 'close'; readonly code: number; readonly afterChunks?: number }
  /** The body ends properly after `afterChunks` frames, without `[DONE]`. */
  | { readonly kind: 'early-end'; readonly afterChunks: number }
  /** The model has nothing to say: the answer ends well, without a word. */
  | { readonly kind: 'empty' }
  /** The engine is `factor` times slower. */
  | { readonly kind: 'slow'; readonly factor: number }
  /**
   * As while shutting down: every answer, also those under way, ends with finish_reason "abort".
   * `/v1/responses` of a plain model calls such an answer completed, which `asCompleted` does.
   */
  | { readonly kind: 'abort'; readonly asCompleted?: boolean }
  /** Comments (`: keep-alive`) in chat and completion streams silent for `everyMs` real milliseconds. */
  | { readonly kind: 'keep-alive'; readonly everyMs: number }
  /** An HTML error page, as a proxy writes it. Default status 502. */
  | { readonly kind: 'html'; readonly status?: number }
  /** A redirect to a login page, as an access proxy answers. */
  | { readonly kind: 'redirect'; readonly location?: string }

export type Fault = FaultKind & {
  /** Only the next `times` requests; then the fault is gone. Not for refuse, freeze, slow. */
  readonly times?: number
  /** Only the last of every so many requests; the others go well. Default 1: all. Not for refuse, freeze, slow. */
  readonly oneIn?: number
  /**
   * `inference`: only requests that generate; `all`: `/health`, `/metrics` and the rest too.
   * Default: `all` for hang, html and redirect, else `inference`.
   */
  readonly scope?: 'inference' | 'all'
}

const EVERYTHING: readonly Fault['kind'][] = ['hang', 'html', 'redirect']

/** The fault in force and how often it may still strike. */
export class FaultBox {
  #fault: Fault | null = null
  #left = Infinity
  #seen = 0

  get current(): Fault | null {
    return this.#left > 0 ? this.#fault : null
  }

  set(fault: Fault | null): void {
    this.#fault = fault
    this.#left = fault?.times ?? Infinity
    this.#seen = 0
  }

  /** The fault that this request meets, counted against `times`; null for none. */
  strike(isInference: boolean): Fault | null {
    const fault = this.current
    if (fault === null) return null
    const scope = fault.scope ?? (EVERYTHING.includes(fault.kind) ? 'all' : 'inference')
    if (scope === 'inference' && !isInference) return null
    this.#seen++
    if (this.#seen % (fault.oneIn ?? 1) !== 0) return null
    this.#left--
    return fault
  }
}

export const BAD_GATEWAY_HTML = `<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body>\r
<center><h1>502 Bad Gateway</h1></center>\r
<hr><center>nginx/1.22.1</center>\r
</body>\r
</html>\r
`

export const REDIRECT_HTML = `<html>\r
<head><title>302 Found</title></head>\r
<body>\r
<center><h1>302 Found</h1></center>\r
<hr><center>cloudflare</center>\r
</body>\r
</html>\r
`
