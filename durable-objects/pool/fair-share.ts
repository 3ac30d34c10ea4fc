import type { ServiceClass } from './contract.ts'
import { Heap } from './heap.ts'

/** One request's place in its tenant's line. */
export interface Place<T> {
  readonly item: T
  readonly tenant: string
  readonly class: ServiceClass
  /** Tokens, at least 1. */
  readonly cost: number
  /** Number of its arrival; who came first goes first where starts are equal. */
  readonly order: number
  /** Unix milliseconds. */
  deadline: number
  /** Virtual time between this place's finish and the next one's start: others' that were served out of the line. */
  paid: number
  /** Its start on the virtual clock in the round that came to it last. */
  start: number
  before: Place<T> | null
  behind: Place<T> | null
  /** Null once it waits no more. */
  line: Line<T> | null
}

/** What one tenant has waiting. */
interface Line<T> {
  readonly tenant: string
  /** Start of its first place on the virtual clock; all others follow from it. */
  start: number
  /** Where its last place finishes. */
  finish: number
  first: Place<T> | null
  last: Place<T> | null
  length: number
  /** How far a round has come ({@link FairShare.inTurn}); null: to the end of the line. */
  cursor: Place<T> | null
  cursorStart: number
}

/**
 * Tenants whose line is empty are remembered while their last finish lies ahead of the clock; so many
 * at most, lest a million tenants with one request each fill the memory.
 */
const REMEMBERED = 1024

/**
 * Start-time fair queueing: who goes next among the tenants of one service class.
 *
 * Each tenant has a line of its own, first come first served. A virtual clock, counted in tokens,
 * says whose line is next: a request *starts* at the moment the tenant's request before it finishes,
 * or now where the tenant had nothing waiting, and *finishes* as many tokens later as it costs. The
 * earliest start goes first, and the clock stands at the latest start that was served. So tenants
 * that want more than there is get equal tokens, however many requests each sends, and a tenant that
 * asks seldom starts now, ahead of everything that a burst has waiting but its first request.
 *
 * Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queuing" (SIGCOMM 1996), which also proves
 * the bound that the tests hold it to; the idea of a virtual clock per flow is A. Demers, S. Keshav,
 * S. Shenker, "Analysis and Simulation of a Fair Queueing Algorithm" (SIGCOMM 1989).
 *
 * Two things differ from packets on a wire. A request may leave before it is served, and then those
 * behind it must not pay for it; so starts are not stored but counted along the line. And the request
 * whose turn it is may not fit what is free (an instance it has failed on, a context too short): it is
 * passed over and keeps its start, which is soon the oldest of all, so that it cannot starve.
 */
export class FairShare<T> {
  /** Lines with somebody in them. */
  readonly #lines = new Map<string, Line<T>>()
  /** Where the last request of a tenant with nothing waiting finishes, oldest first. */
  readonly #finishes = new Map<string, number>()
  #virtualTime = 0
  #size = 0
  #tokens = 0

  get size(): number {
    return this.#size
  }

  /** Tokens of all that waits. */
  get tokens(): number {
    return this.#tokens
  }

  placesOf(tenant: string): number {
    return this.#lines.get(tenant)?.length ?? 0
  }

  /** Puts a place at the end of its tenant's line. O(1). */
  join(place: Place<T>): void {
    const line = this.#lines.get(place.tenant) ?? this.#open(place.tenant)
    const { last } = line
    if (last) {
      // A line whose first place was long passed over lies behind the clock: no credit for newcomers.
      const missed = Math.max(0, this.#virtualTime - line.finish)
      last.paid += missed
      line.finish += missed
      last.behind = place
    } else line.first = place
    line.finish += place.cost
    place.before = last
    place.line = line
    line.last = place
    line.length++
    this.#size++
    this.#tokens += place.cost
  }

  /** Takes a place out without serving it: those behind move up by its cost. O(1). */
  leave(place: Place<T>): void {
    if (place.line) place.line.finish -= place.cost
    this.#remove(place, 0)
  }

  /** Takes out a place that a round has come to: its tenant pays. O(1). */
  serve(place: Place<T>): void {
    this.#virtualTime = Math.max(this.#virtualTime, place.start)
    this.#remove(place, place.cost)
  }

  /**
   * A round: every place that waits now, once, in order. What becomes of one is said before the next is
   * asked for; a round that is broken off is over. O(tenants) to begin, then O(log tenants) for each.
   */
  *inTurn(): Generator<Place<T>> {
    for (const line of this.#lines.values()) {
      line.cursor = line.first
      line.cursorStart = line.start
    }
    const round = new Heap(this.#lines.values(), isBefore)
    for (let line = round.first; line; line = round.first) {
      const place = line.cursor
      if (place) {
        place.start = line.cursorStart
        line.cursor = place.behind
        line.cursorStart += place.cost + place.paid
      }
      if (line.cursor) round.settleFirst()
      else round.dropFirst()
      if (place) yield place
    }
  }

  /** Places that will be served before this one, as things stand. */
  ahead(place: Place<T>): number {
    const mine = startOf(place)
    let count = 0
    for (const line of this.#lines.values()) {
      let { start } = line
      for (let other = line.first; other; other = other.behind) {
        if (start > mine || (start === mine && other.order >= place.order)) break
        count++
        start += other.cost + other.paid
      }
    }
    return count
  }

  /** Whoever has most places: the last in that line; the newest where two have as many. */
  lastOfLongest(): Place<T> | null {
    let found: Place<T> | null = null
    let most = 0
    for (const { length, last } of this.#lines.values()) {
      if (!last || length < most) continue
      if (found && length === most && last.order < found.order) continue
      found = last
      most = length
    }
    return found
  }

  #open(tenant: string): Line<T> {
    const start = Math.max(this.#virtualTime, this.#finishes.get(tenant) ?? 0)
    this.#finishes.delete(tenant)
    // A line that opens during a round waits for the next.
    const line: Line<T> = {
      tenant,
      start,
      finish: start,
      first: null,
      last: null,
      length: 0,
      cursor: null,
      cursorStart: 0,
    }
    this.#lines.set(tenant, line)
    return line
  }

  /** @param charge what the places behind it, or the tenant's next request, have to wait for */
  #remove(place: Place<T>, charge: number): void {
    const { line, before, behind } = place
    if (!line) return
    if (before) {
      before.behind = behind
      before.paid += place.paid + charge
    } else {
      line.first = behind
      line.start += place.paid + charge
    }
    if (behind) behind.before = before
    else line.last = before
    if (line.cursor === place) line.cursor = behind
    place.before = null
    place.behind = null
    place.line = null
    line.length--
    this.#size--
    this.#tokens -= place.cost
    if (line.length === 0) this.#close(line)
  }

  #close({ tenant, start }: Line<T>): void {
    this.#lines.delete(tenant)
    if (this.#size === 0) {
      // Nobody waits, so nobody has a claim on anybody: the next busy period begins at zero.
      this.#finishes.clear()
      this.#virtualTime = 0
      return
    }
    if (start <= this.#virtualTime) return
    this.#finishes.set(tenant, start)
    if (this.#finishes.size <= REMEMBERED) return
    for (const oldest of this.#finishes.keys()) {
      this.#finishes.delete(oldest)
      break
    }
  }
}

/** Which of two lines a round goes on with: the earlier start; of equal ones who came first. */
function isBefore<T>(one: Line<T>, other: Line<T>): boolean {
  if (one.cursorStart !== other.cursorStart) return one.cursorStart < other.cursorStart
  return (one.cursor?.order ?? 0) < (other.cursor?.order ?? 0)
}

function startOf<T>(place: Place<T>): number {
  let start = place.line?.start ?? 0
  for (let other = place.before; other; other = other.before) start += other.cost + other.paid
  return start
}
