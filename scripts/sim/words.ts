import { random } from './tokenizer.ts'

/** Syllables of the pseudo-language; two make a word, so a word is one token of the tokenizer. */
const SYLLABLES = 'ka lo mi tu re sa vo ne di pu ga shi bel or un ta fe ri mo len'.split(' ')

/** Now and then something a byte-wise reader gets wrong: accents, CJK, an astral symbol. */
const RARE = [' é', ' 水', ' 🚰', ' ñ', ' 闸']

/**
 * The next token text of pseudo-prose.
 * @param next a generator of numbers in [0, 1)
 * @param at   position in the text; the first token has no leading space
 */
export function word(next: () => number, at: number): string {
  const draw = next()
  const first = SYLLABLES[Math.floor(next() * SYLLABLES.length)] ?? 'ka'
  const second = SYLLABLES[Math.floor(next() * SYLLABLES.length)] ?? 'lo'
  if (at === 0) return first.charAt(0).toUpperCase() + first.slice(1) + second
  if (draw < 0.02) return RARE[Math.floor(draw * 50 * RARE.length)] ?? ' é'
  if (draw < 0.08) return '.'
  if (draw < 0.13) return ','
  return ` ${first}${second}`
}

/**
 * A value that fits a JSON Schema, well enough for a client that parses and checks it.
 * Unknown keywords are ignored; recursion ends after six levels.
 */
export function example(schema: unknown, seed: number, depth = 0): unknown {
  const node: Record<string, unknown> =
    typeof schema === 'object' && schema !== null ? { ...schema } : {}
  if ('const' in node) return node['const']
  const choices = node['enum']
  if (Array.isArray(choices) && choices.length > 0) return choices[seed % choices.length] as unknown
  const variants = node['anyOf'] ?? node['oneOf']
  if (Array.isArray(variants)) return example(variants[0], seed, depth + 1)
  const type: unknown = Array.isArray(node['type']) ? (node['type'][0] as unknown) : node['type']
  if (type === 'integer' || type === 'number') {
    const least = typeof node['minimum'] === 'number' ? node['minimum'] : 0
    return least + (seed % 40)
  }
  if (type === 'boolean') return seed % 2 === 0
  if (type === 'null') return null
  if (type === 'array') return depth > 6 ? [] : [example(node['items'], seed + 1, depth + 1)]
  if (type === 'object' || 'properties' in node) return object(node, seed, depth)
  const next = random(seed + depth)
  return `${word(next, 0)}${word(next, 1)}`
}

function object(node: Record<string, unknown>, seed: number, depth: number): unknown {
  const properties = node['properties']
  if (typeof properties !== 'object' || properties === null || depth > 6) return {}
  return Object.fromEntries(
    Object.entries(properties).map(([name, inner], i) => [
      name,
      example(inner, seed + 7 * i + 1, depth + 1),
    ]),
  )
}

/** JSON as Python's `json.dumps` writes it: a space after each comma and colon. */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const fields = Object.entries(value).map(([key, v]) => `${JSON.stringify(key)}: ${pythonJson(v)}`)
  return `{${fields.join(', ')}}`
}
