/** What is wrong with a fleet of eight, and when. */

/** What happens to an instance at some moment. */
export type Turn =
  /** Requests are answered 503 after 5 ms; `/health` and `/metrics` look idle and well. */
  | 'fails-fast'
  /** Its engine stands still; `/health` goes on saying that all is well. */
  | 'freezes'
  | 'slows'
  /** Connections are reset, and new ones refused. */
  | 'dies'
  /** The process is back on its port, with an empty cache. */
  | 'returns'

export interface Event {
  /** Milliseconds from the start. */
  readonly at: number
  readonly turn: Turn
}

export interface Fleet {
  readonly name: string
  /** How long requests keep coming, in seconds. */
  readonly seconds: number
  /** From when on the sick one's share is counted, in milliseconds; null where nobody is sick. */
  readonly shareFrom: number | null
  readonly events: readonly Event[]
}

export const INSTANCES = 8
/** Which of them falls ill. */
export const SICK = 3

/** A small, slow GPU: prefill is what a request waits for, and eight caches do not hold everything twice. */
export const PROFILE = {
  ttftBaseMs: 20,
  prefillMsPerToken: 0.5,
  itlBaseMs: 18,
  itlMsPerRunning: 0.2,
} as const
/** Of 16 tokens. */
export const KV_BLOCKS = 1_024

/** How long each part of a scenario takes. */
export interface Pace {
  /** Requests before this are sent, and not measured, in milliseconds: caches and programs are cold. */
  readonly warmUpMs: number
  /** When the fault strikes. */
  readonly strikeMs: number
  readonly seconds: number
  /** When the one that died is back, and how long requests go on then. */
  readonly returnMs: number
  readonly returnSeconds: number
}

export const fleetsOf = ({ strikeMs, seconds, returnMs, returnSeconds }: Pace) =>
  ({
    well: { name: 'all well', seconds, shareFrom: null, events: [] },
    failing: {
      name: 'one fails in 5 ms',
      seconds,
      shareFrom: strikeMs,
      events: [{ at: strikeMs, turn: 'fails-fast' }],
    },
    frozen: {
      name: 'one frozen',
      seconds,
      shareFrom: strikeMs,
      events: [{ at: strikeMs, turn: 'freezes' }],
    },
    slow: {
      name: 'one at half speed',
      seconds,
      shareFrom: 0,
      events: [{ at: 0, turn: 'slows' }],
    },
    dying: {
      name: 'one dies, comes back',
      seconds: returnSeconds,
      shareFrom: returnMs,
      events: [
        { at: strikeMs, turn: 'dies' },
        { at: returnMs, turn: 'returns' },
      ],
    },
  }) as const satisfies Record<string, Fleet>
