import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { fleetJsonSchema } from '../../durable-objects/fleet/schema.ts'

interface Schema {
  readonly type?: string
  readonly description?: string
  readonly pattern?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly minItems?: number
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly propertyNames?: Schema
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
}

const schema = fleetJsonSchema() as Schema
const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  object: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === 'string',
  number: (value) => typeof value === 'number',
  integer: Number.isInteger,
  boolean: (value) => typeof value === 'boolean',
}

/** As much of JSON Schema as ours uses; true when `value` fits. */
function fits(value: unknown, node: Schema): boolean {
  if (node.anyOf) return node.anyOf.some((branch) => fits(value, branch))
  if (node.type !== undefined && !TYPES[node.type]?.(value)) return false
  if (node.enum && !node.enum.includes(value)) return false
  if (node.const !== undefined && node.const !== value) return false
  if (node.pattern && !new RegExp(node.pattern).test(String(value))) return false
  if (typeof value === 'number') {
    if (value < (node.minimum ?? value) || value > (node.maximum ?? value)) return false
    if (node.exclusiveMinimum !== undefined && value <= node.exclusiveMinimum) return false
  }
  if (Array.isArray(value)) {
    if (value.length < (node.minItems ?? 0)) return false
    return value.every((item) => fits(item, node.items ?? {}))
  }
  if (typeof value !== 'object' || value === null) return true
  if (node.required?.some((key) => !(key in value))) return false
  return Object.entries(value).every(([key, child]) => {
    const known = node.properties?.[key]
    if (known) return fits(child, known)
    if (node.additionalProperties === false) return false
    const isNamed = node.propertyNames === undefined || fits(key, node.propertyNames)
    return (
      isNamed &&
      (typeof node.additionalProperties !== 'object' || fits(child, node.additionalProperties))
    )
  })
}

/** Paths of fields without a description, and of maps that let unknown keys through. */
function* faults(node: Schema, path: string): Generator<string> {
  if (node.type === 'object' && node.additionalProperties === undefined) yield `${path} is open`
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    if (!child.description) yield `${path}.${key} has no description`
    yield* faults(child, `${path}.${key}`)
  }
  const below = [node.items, ...(node.anyOf ?? []), node.additionalProperties]
  for (const child of below) if (typeof child === 'object') yield* faults(child, `${path}[]`)
}

const example: unknown = parse(
  readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8'),
)

const model = (fields: object) => ({ models: { m: { arms: [{ pool: 'p' }], ...fields } } })

describe('the JSON Schema for editors', () => {
  it('accepts the example', () => {
    expect(fits(example, schema)).toBe(true)
  })

  it.each([
    ['an unknown key', { extra: 1 }],
    ['a duration without its unit', { defaults: { timeouts: { idle: 60 } } }],
    ['a duration with a wrong unit', { defaults: { timeouts: { idle: '60 sec' } } }],
    ['an unknown policy', { defaults: { policy: 'fastest' } }],
    ['an unknown scorer', { defaults: { scorers: { fastest: 1 } } }],
    ['a breaker with a bare number for a duration', { defaults: { breaker: { open: 10 } } }],
    ['a pool id in capitals', { pools: { QWEN: { served_as: 'x', instances: [] } } }],
    ['a secret instead of its name', { sites: { a: { origin: 'https://a', node_key: 'sk-1' } } }],
    ['a limit with a unit', { plans: { free: { rpm: '60/min' } } }],
    ['a limit of nothing', { plans: { free: { rpm: 0 } } }],
    ['a plan that allows no model', { plans: { free: { models: [] } } }],
    ['a price without its answers', { models: { m: { arms: [], price: { prompt: 1 } } } }],
    ['an alias that is every name', model({ aliases: ['*'] })],
    ['a host with a port', model({ hosts: ['qwen.example.com:443'] })],
    ['a shadow of nothing', model({ shadow: { pool: 'p', share: 0 } })],
    ['a guard with a word for a number', model({ guard: { ttft_p95_times: 'on' } })],
    ['a guard that allows what is equal', model({ guard: { ttft_p95_times: 1 } })],
    ['a rule that asks nothing', model({ rules: [{ arm: 'canary' }] })],
    ['a header in capitals', model({ rules: [{ when: { header: { 'X-A': 'a' } }, arm: 'b' }] })],
    ['a star within a text', model({ rules: [{ when: { user: ['a*b'] }, arm: 'b' }] })],
    ['a currency in small letters', { billing: { currency: 'eur' } }],
    ['an event of a later version', { webhooks: [{ url_secret: 'A', events: ['ejection'] }] }],
    ['an issuer without keys', { auth: { jwt: { issuer: 'https://a', audience: 'b' } } }],
  ])('refuses %s', (_, change) => {
    expect(fits({ ...(example as object), ...change }, schema)).toBe(false)
  })

  it('takes digits in groups, which are text to an editor', () => {
    const plans = { free: { tpm: '40_000', rpm: 60 } }
    expect(fits({ ...(example as object), plans }, schema)).toBe(true)
  })

  it.each([
    ['a threshold that is off', { guard: { error_ratio_over: 'off', ttft_p95_times: 2.5 } }],
    ['one text or several', { rules: [{ when: { tenant: 'acme', user: ['a', 'b*'] }, arm: 'x' }] }],
    ['no time to keep an arm', { keep_arm: '0s' }],
    ['a glob as an alias', { aliases: ['claude-*', '*/llama'] }],
  ])('takes %s', (_, fields) => {
    expect(fits({ ...(example as object), ...model(fields) }, schema)).toBe(true)
  })

  it('describes every field and leaves no map open', () => {
    expect([...faults(schema, 'fleet')]).toEqual([])
  })

  it('is the one that is committed for editors', () => {
    const written = readFileSync(new URL('../../fleet.schema.json', import.meta.url), 'utf8')
    expect(JSON.parse(written)).toEqual(schema)
  })
})
