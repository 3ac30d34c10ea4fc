/** A value under its labels; null or undefined: nobody knows it, and it is left out. */
export type Sample = readonly [
  labels: Readonly<Record<string, string>>,
  value: number | null | undefined,
]

export interface Metric {
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  readonly samples: readonly Sample[]
}

/** What only ever grows. @param name without `penstock_` and `_total` */
export const counter = (name: string, help: string, samples: readonly Sample[]): Metric => ({
  name: `penstock_${name}_total`,
  type: 'counter',
  help,
  samples,
})

/** What goes up and down. @param name without `penstock_` */
export const gauge = (name: string, help: string, samples: readonly Sample[]): Metric => ({
  name: `penstock_${name}`,
  type: 'gauge',
  help,
  samples,
})

/** A page in Prometheus' text format, version 0.0.4. A metric of which nothing is known is left out. */
export function exposition(metrics: readonly Metric[]): string {
  return metrics.map(pageOf).join('')
}

function pageOf({ name, type, help, samples }: Metric): string {
  const lines = samples.flatMap(([labels, value]) =>
    typeof value === 'number' ? [`${name}${labelsOf(labels)} ${value}\n`] : [],
  )
  if (lines.length === 0) return ''
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function labelsOf(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
