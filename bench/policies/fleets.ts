/** What is wrong with a fleet of eight, and when. */

/** What happens to an instance at some moment. */
export type Turn =
  /** It answers 503 after 5 ms, and its metrics look idle. */
  | 'fails-fast'
  /** Its engine stands still; `/health` goes on saying that all is well. */
  | 'freezes'
  | 'dies'
  /** The process is back, with an empty cache. */
  | 'returns'

export interface Event {
  /** Milliseconds from the start. */
  readonly at: number
  readonly instance: number
  readonly turn: Turn
}

export interface Fleet {
  readonly name: string
  readonly size: number
  /** Times slower than the others, by instance. */
  readonly slowness: Readonly<Record<number, number>>
  readonly events: readonly Event[]
}

const SIZE = 8

export const FLEETS: readonly Fleet[] = [
  { name: 'equal', size: SIZE, slowness: {}, events: [] },
  { name: 'one half-speed', size: SIZE, slowness: { 3: 2 }, events: [] },
  {
    name: 'one fails in 5 ms',
    size: SIZE,
    slowness: {},
    events: [{ at: 10_000, instance: 3, turn: 'fails-fast' }],
  },
  {
    name: 'one frozen',
    size: SIZE,
    slowness: {},
    events: [{ at: 31_000, instance: 3, turn: 'freezes' }],
  },
  {
    name: 'one dies, comes back',
    size: SIZE,
    slowness: {},
    events: [
      { at: 21_000, instance: 3, turn: 'dies' },
      { at: 46_000, instance: 3, turn: 'returns' },
    ],
  },
]
