import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { Refusal } from '../refusal.ts'

/** Younger than this, the snapshot is not even checked. */
const FRESH_MS = 1_000
/** Younger than this, it is used while it is checked behind the request's back. */
const USABLE_MS = 10_000
/** A name that is not found makes an isolate look for news at most this often. */
const NEWS_MS = 100
/** How long a request waits for news when it has an older snapshot to go on with, and when it has none. */
const PATIENCE_MS = 1_000
const COLD_PATIENCE_MS = 5_000

export interface SnapshotSource {
  /** The current snapshot; null when `known` and its `revision` are current, or there is none at all. */
  readonly load: (known: number, revision: number) => Promise<Snapshot | null>
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** Keeps the runtime from ending work that no answer waits for. */
  readonly defer: (work: Promise<unknown>) => void
}

/**
 * The fleet as this isolate knows it. Values are kept, never promises: in Workers a promise belongs
 * to the request that made it.
 */
export class Snapshots {
  #held: Snapshot | null = null
  #checkedAt = -Infinity
  /** When somebody looked for news last, and whether he still does. */
  #newsAt = -Infinity
  #looking = false

  /** The last snapshot seen, however old. */
  get latest(): Snapshot | null {
    return this.#held
  }

  /**
   * The snapshot to route by. With the fleet object out of reach, the last one goes on serving.
   * @throws Refusal `router_unavailable` when there is none
   */
  async current(source: SnapshotSource): Promise<Snapshot> {
    const age = source.now() - this.#checkedAt
    if (this.#held && age < FRESH_MS) return this.#held
    if (this.#held && age < USABLE_MS) {
      this.#checkedAt = source.now() // one request checks, the others go on
      source.defer(this.#refresh(source))
      return this.#held
    }
    return this.reload(source)
  }

  /**
   * A newer snapshot than the one a name was not found in, if there is one: what was applied a moment
   * ago works at once. Looked for by one request at a time, and not more often than {@link NEWS_MS}, since
   * names can be invented by anybody. Who comes while another one looks waits for what that one finds.
   */
  async news(source: SnapshotSource, used: number): Promise<Snapshot | null> {
    const newer = (): Snapshot | null =>
      this.#held !== null && this.#held.version > used ? this.#held : null
    if (!newer()) {
      if (this.#isLooking(source)) await this.#lookedFor(source)
      else if (this.#sinceNews(source) >= NEWS_MS) await this.#look(source)
    }
    return newer()
  }

  /** Loads anew, as when a pool has told of a newer version. */
  async reload(source: SnapshotSource): Promise<Snapshot> {
    const refreshed = this.#refresh(source)
    source.defer(refreshed.catch(() => undefined))
    const patienceMs = this.#held ? PATIENCE_MS : COLD_PATIENCE_MS
    const silent = await Promise.race([refreshed, source.sleep(patienceMs).then(() => true)])
    if (silent) {
      this.#checkedAt = source.now() // whoever comes next need not wait as well
      if (!this.#held) throw outOfReach(`no answer in ${patienceMs} ms`)
    }
    return this.#orRefuse()
  }

  async #look(source: SnapshotSource): Promise<void> {
    this.#newsAt = source.now() // before it is known: whoever comes meanwhile must not look as well
    this.#looking = true
    try {
      await this.reload(source)
    } finally {
      this.#looking = false
    }
  }

  /** Waits until the one who looks is back, but no longer than that one would. */
  async #lookedFor(source: SnapshotSource): Promise<void> {
    for (let naps = PATIENCE_MS / NEWS_MS; naps > 0 && this.#isLooking(source); naps--) {
      await source.sleep(NEWS_MS)
    }
  }

  /** False for one that should long be back: its request may have ended, and its work with it. */
  #isLooking(source: SnapshotSource): boolean {
    return this.#looking && this.#sinceNews(source) < PATIENCE_MS
  }

  /** Milliseconds, a clock put back or not. */
  #sinceNews({ now }: SnapshotSource): number {
    return Math.abs(now() - this.#newsAt)
  }

  async #refresh({ load, now }: SnapshotSource): Promise<void> {
    try {
      const { version = 0, revision = 0 } = this.#held ?? {}
      const snapshot = await load(version, revision)
      if (snapshot && isNewer(snapshot, this.#held)) this.#held = snapshot
      this.#checkedAt = now()
    } catch (cause) {
      this.#checkedAt = now() // out of reach: not asked again at every request
      if (!this.#held) throw outOfReach(cause)
    }
  }

  #orRefuse(): Snapshot {
    if (this.#held) return this.#held
    throw new Refusal('router_unavailable', 'No fleet has been applied to this router yet.')
  }
}

const outOfReach = (cause: unknown): Refusal =>
  new Refusal('router_unavailable', "The router's fleet service is out of reach.", { cause })

/** Of two answers that have overtaken each other, the older one is dropped. */
function isNewer(snapshot: Snapshot, held: Snapshot | null): boolean {
  if (held === null || snapshot.version !== held.version) {
    return snapshot.version > (held?.version ?? 0)
  }
  return (snapshot.revision ?? 0) > (held.revision ?? 0)
}

/** This isolate's copy. */
export const snapshots = new Snapshots()
