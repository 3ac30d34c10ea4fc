import type { ArmFigures, ArmSummary } from './contract.ts'
import type { ArmName } from '../pool/contract.ts'
import { merged, quantile } from './histogram.ts'

/** How requests of an arm went, whichever arm it is. */
export type ArmTotals = Omit<ArmFigures, keyof ArmName>

/** A window moves on by one of so many slices at a time. */
const SLICES = 12

interface Slice {
  /** Which one it is since 1970. */
  readonly number: number
  readonly totals: ArmTotals
}

/** One arm's figures of the last few minutes: between 11/12 of the window and all of it. */
export class ArmWindow {
  readonly #sliceMs: number
  /** Those that are over, oldest first. */
  #past: readonly Slice[] = []
  /** All of them, added up once. */
  #pastTotals = totalOf([])
  #current: Slice = { number: -Infinity, totals: this.#pastTotals }

  constructor(windowMs: number) {
    this.#sliceMs = windowMs / SLICES
  }

  /** @param now Unix milliseconds */
  add(figures: ArmTotals, now: number): void {
    this.#moveOn(now)
    const { number, totals } = this.#current
    this.#current = { number, totals: totalOf([totals, figures]) }
  }

  /** @param now Unix milliseconds */
  totals(now: number): ArmTotals {
    this.#moveOn(now)
    return totalOf([this.#pastTotals, this.#current.totals])
  }

  #moveOn(now: number): void {
    const number = Math.floor(now / this.#sliceMs)
    if (number <= this.#current.number) return // a clock that was put back stands still
    this.#past = [...this.#past, this.#current].filter((slice) => slice.number > number - SLICES)
    this.#pastTotals = totalOf(this.#past.map(({ totals }) => totals))
    this.#current = { number, totals: totalOf([]) }
  }
}

/** All of several arms' figures, or slices, in one. */
export function totalOf(parts: readonly ArmTotals[]): ArmTotals {
  const sum = (read: (part: ArmTotals) => number): number =>
    parts.reduce((total, part) => total + read(part), 0)
  return {
    requests: sum(({ requests }) => requests),
    failed: sum(({ failed }) => failed),
    truncated: sum(({ truncated }) => truncated),
    empty: sum(({ empty }) => empty),
    lost: sum(({ lost }) => lost),
    ttft: merged(parts.map(({ ttft }) => ttft)),
    interToken: merged(parts.map(({ interToken }) => interToken)),
  }
}

/** Figures for people. */
export const summaryOf = ({ ttft, interToken, ...counts }: ArmTotals): ArmSummary => ({
  ...counts,
  ttftP50: quantile(ttft, 0.5),
  ttftP95: quantile(ttft, 0.95),
  interTokenP95: quantile(interToken, 0.95),
})
