import type { Histogram } from './engine-stats.ts'

export type Labels = Readonly<Record<string, string>>

/** A number as Python writes a float: `3.0`, `0.25`, `1.795364756e+09`. */
export function pythonFloat(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return `${value}.0`
  if (Math.abs(value) >= 1e9) {
    const [digits = '', exponent = ''] = value.toExponential().split('e+')
    return `${digits}e+${exponent.padStart(2, '0')}`
  }
  return String(value)
}

const labelled = (name: string, labels: Labels): string => {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${value}"`)
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`
}

/** A page in Prometheus' text format, written as Python's client writes it (with `_created`). */
export class Page {
  readonly #lines: string[] = []
  /** Unix seconds at which every series began. */
  readonly #created: number

  constructor(created: number) {
    this.#created = created
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`
  }

  gauge(name: string, series: readonly (readonly [Labels, number])[]): void {
    this.#family(name, 'gauge', series)
  }

  /** A counter without its `_created` series, as platform collectors write it. */
  counterOnly(name: string, series: readonly (readonly [Labels, number])[]): void {
    this.#family(name, 'counter', series)
  }

  /** @param name without `_total` */
  counter(name: string, series: readonly (readonly [Labels, number])[]): void {
    this.#family(`${name}_total`, 'counter', series)
    this.#createdAt(
      name,
      series.map(([labels]) => labels),
    )
  }

  histogram(name: string, series: readonly (readonly [Labels, Histogram])[]): void {
    this.#head(name, 'histogram')
    for (const [labels, { bounds, counts, count, sum }] of series) {
      let below = 0
      for (const [i, bound] of bounds.entries()) {
        below += counts[i] ?? 0
        this.#sample(`${name}_bucket`, withBound(labels, pythonFloat(bound)), below)
      }
      this.#sample(`${name}_bucket`, withBound(labels, '+Inf'), count)
      this.#sample(`${name}_count`, labels, count)
      this.#sample(`${name}_sum`, labels, sum)
    }
    this.#createdAt(
      name,
      series.map(([labels]) => labels),
    )
  }

  /** @param series labels, count, sum */
  summary(name: string, series: readonly (readonly [Labels, number, number])[]): void {
    this.#head(name, 'summary')
    for (const [labels, count, sum] of series) {
      this.#sample(`${name}_count`, labels, count)
      this.#sample(`${name}_sum`, labels, sum)
    }
    this.#createdAt(
      name,
      series.map(([labels]) => labels),
    )
  }

  #createdAt(name: string, series: readonly Labels[]): void {
    const entries = series.map((labels): [Labels, number] => [labels, this.#created])
    this.#family(`${name}_created`, 'gauge', entries)
  }

  #family(name: string, type: string, series: readonly (readonly [Labels, number])[]): void {
    this.#head(name, type)
    for (const [labels, value] of series) this.#sample(name, labels, value)
  }

  #head(name: string, type: string): void {
    this.#lines.push(`# TYPE ${name} ${type}`)
  }

  #sample(name: string, labels: Labels, value: number): void {
    this.#lines.push(`${labelled(name, labels)} ${pythonFloat(value)}`)
  }
}

/** `le` stands in the order of label names, between `handler` and `method`. */
const withBound = (labels: Labels, le: string): Labels =>
  Object.fromEntries(Object.entries({ ...labels, le }).sort(([a], [b]) => (a < b ? -1 : 1)))
