/** Reads a page in Prometheus' text format, version 0.0.4, and refuses one that is not. */

export interface Page {
  /** Type of each metric, by name. */
  readonly types: ReadonlyMap<string, string>
  /** The value of one series; undefined where the page has none with exactly these labels. */
  value(name: string, labels: Readonly<Record<string, unknown>>): number | undefined
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${LABEL.source})(?:,${LABEL.source})*)\\})? (\\S+)$`)

/** @throws where a line is none of the format, comes twice, or stands apart from its metric */
export function pageOf(text: string): Page {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const types = new Map<string, string>()
  const helps = new Set<string>()
  const values = new Map<string, number>()
  let current = ''
  for (const line of text.slice(0, -1).split('\n')) {
    const help = new RegExp(`^# HELP (${NAME}) \\S.*$`).exec(line)
    const type = new RegExp(`^# TYPE (${NAME}) (counter|gauge)$`).exec(line)
    const sample = SAMPLE.exec(line)
    if (help?.[1] !== undefined) {
      if (helps.has(help[1])) throw new Error(`twice: ${line}`)
      helps.add(help[1])
    } else if (type?.[1] !== undefined && type[2] !== undefined) {
      if (types.has(type[1])) throw new Error(`twice: ${line}`)
      current = type[1]
      types.set(current, type[2])
    } else if (sample) {
      const [, name = '', labels = ''] = sample
      if (name !== current) throw new Error(`apart from its metric: ${line}`)
      if (types.get(name) === 'counter' && !name.endsWith('_total'))
        throw new Error(`a counter by another name: ${line}`)
      const value = Number(sample.at(-1))
      if (!Number.isFinite(value)) throw new Error(`no number: ${line}`)
      const key = keyOf(name, pairsIn(labels))
      if (values.has(key)) throw new Error(`twice: ${line}`)
      values.set(key, value)
    } else throw new Error(`not a line of the format: ${line}`)
  }
  for (const name of types.keys()) if (!helps.has(name)) throw new Error(`no help: ${name}`)
  return {
    types,
    value: (name, labels) =>
      values.get(
        keyOf(
          name,
          Object.entries(labels).map(([key, value]) => [key, String(value)]),
        ),
      ),
  }
}

const pairsIn = (labels: string): [string, string][] =>
  Array.from(labels.matchAll(new RegExp(LABEL, 'g')), ([, name = '', value = '']) => [
    name,
    value.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
  ])

const keyOf = (name: string, labels: readonly (readonly [string, string])[]): string =>
  JSON.stringify([name, ...labels.toSorted(([a], [b]) => (a < b ? -1 : 1))])
