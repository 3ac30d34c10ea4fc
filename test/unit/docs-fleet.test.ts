import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fleetJsonSchema } from '../../durable-objects/fleet/schema.ts'
import { BUILT_IN, settingsShape } from '../../durable-objects/fleet/settings.ts'
import { formatDuration } from '../../durable-objects/fleet/units.ts'

const text = (path: string): string =>
  readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

const WHOLE_FLEET_DOC = text('docs/fleet.md')
const [POLICIES_DOC = ''] = /^### Policies$.*?^## /ms.exec(WHOLE_FLEET_DOC) ?? []
/** All but the policies, whose table is of names and not of fields. */
const FLEET_DOC = WHOLE_FLEET_DOC.replace(POLICIES_DOC, '')
const CONTRACT_DOC = text('docs/contract.md')

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
}

/** Every field that a schema names: `sites.<id>.origin`, `pools.<id>.instances[].port`. */
function fieldsOf(schema: Schema, at = ''): string[] {
  const { properties = {}, additionalProperties, items, anyOf = [] } = schema
  const named = Object.entries(properties).flatMap(([name, field]) => {
    const path = at === '' ? name : `${at}.${name}`
    return [path, ...fieldsOf(field, path)]
  })
  const entry =
    typeof additionalProperties === 'object' ? fieldsOf(additionalProperties, `${at}.<id>`) : []
  const item = items ? fieldsOf(items, `${at}[]`) : []
  return [...named, ...entry, ...item, ...anyOf.flatMap((branch) => fieldsOf(branch, at))]
}

const FIELDS = [...new Set(fieldsOf(fleetJsonSchema()))]

/** The row of a table whose first cell is this name, as code. */
const rowOf = (doc: string, name: string): string | undefined =>
  doc.split('\n').find((line) => line.startsWith(`| \`${name}\``))

describe('docs/fleet.md', () => {
  it.each(FIELDS)('has a row for %s', (field) => {
    const shared = field.replace(/^pools\.<id>\./, 'defaults.')
    expect(rowOf(FLEET_DOC, field) ?? rowOf(FLEET_DOC, shared)).toBeDefined()
  })

  it('has no row for a field that the schema does not know', () => {
    const rows = [...FLEET_DOC.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name)
    expect(rows.filter((name) => !FIELDS.includes(name ?? ''))).toEqual([])
  })

  it.each([
    ...Object.entries(BUILT_IN.health).map(([name, value]) => ['health', name, value] as const),
    ...Object.entries(BUILT_IN.timeouts).map(([name, value]) => ['timeouts', name, value] as const),
  ])('tells the built-in value of %s.%s', (group, name, value) => {
    const written = name.endsWith('_after') ? String(value) : formatDuration(value)
    expect(rowOf(FLEET_DOC, `defaults.${group}.${name}`)).toContain(`| \`${written}\` |`)
  })

  const { window, open, open_max, ...counts } = BUILT_IN.breaker
  const breaker = [
    ...Object.entries({ window, open, open_max }).map(([k, ms]) => [k, formatDuration(ms)]),
    ...Object.entries(counts).map(([k, count]) => [k, String(count)]),
  ].map(([name, written]): [string, string] => [`breaker.${name}`, written ?? ''])

  const mebibytes = (bytes: number): string => `${bytes / 1024 ** 2}MiB`
  it.each([
    ['policy', BUILT_IN.policy],
    ...breaker,
    ['slow_start', formatDuration(BUILT_IN.slow_start)],
    ['queue.max', String(BUILT_IN.queue.max)],
    ['queue.wait', formatDuration(BUILT_IN.queue.wait)],
    ['early_commit', formatDuration(BUILT_IN.early_commit)],
    ['retry.attempts', String(BUILT_IN.retry.attempts)],
    ['limits.body', mebibytes(BUILT_IN.limits.body)],
    ['limits.audio', mebibytes(BUILT_IN.limits.audio)],
    ['limits.n', String(BUILT_IN.limits.n)],
    ['limits.output_tokens', String(BUILT_IN.limits.output_tokens)],
    ['media.domains', JSON.stringify(BUILT_IN.media.domains)],
    ['media.image_tokens', String(BUILT_IN.media.image_tokens)],
    ['media.audio_tokens_per_second', String(BUILT_IN.media.audio_tokens_per_second)],
    ['reasoning_field', BUILT_IN.reasoning_field],
  ])('tells the built-in value of %s, %s', (field, written) => {
    expect(rowOf(FLEET_DOC, `defaults.${field}`)).toContain(`| \`${written}\` |`)
  })
})

describe('the policies of docs/fleet.md', () => {
  const named = [...POLICIES_DOC.matchAll(/^\| `([a-z0-9_]+)` \|/gm)].map(([, name]) => name)

  it('are those of the schema, each once', () => {
    const known = settingsShape.policy.unwrap().options
    expect(named).toHaveLength(known.length)
    expect(new Set(named)).toEqual(new Set(known))
  })
})

describe('docs/contract.md', () => {
  const refusals = [
    ...text('worker/refusal.ts').matchAll(/^ {2}([a-z_]+): \[(\d{3}), '([a-z_]+)'\],/gm),
  ].map(([, code = '', status = '', type = '']) => ({ code, status, type }))

  it('is checked against the whole table of refusals', () => {
    expect(refusals.length).toBeGreaterThan(20)
  })

  it.each(refusals)('tells status and type of $code', ({ code, status, type }) => {
    expect(rowOf(CONTRACT_DOC, code)).toContain(`| ${status} | \`${type}\` |`)
  })
})
