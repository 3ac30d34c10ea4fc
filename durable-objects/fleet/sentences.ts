/** What the schema refuses, said in sentences. */
import type { z } from 'zod'
import { nearest } from './nearest.ts'

/** Keys of later versions: naming a similar key of this one would mislead. */
const LATER = new Set('launch gpus'.split(' '))

const KINDS: Readonly<Record<string, string>> = {
  object: 'a map',
  record: 'a map',
  array: 'a list',
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
}

const kindOf = (value: unknown): string => {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number' && !Number.isFinite(value))
    return Number.isNaN(value) ? '.nan' : '.inf'
  return typeof value === 'boolean' ? 'true or false' : (KINDS[typeof value] ?? typeof value)
}

/** What to write instead of an unknown key. */
function unknownKey(key: string, known: readonly string[]): string {
  if (known.includes('url') && ['site', 'host', 'port', 'grpc_port'].includes(key)) {
    return `${key} does not go with url: an instance has either site and port, or url`
  }
  if (known.includes('grpc_port') && ['key_env', 'last_resort'].includes(key)) {
    return `${key} goes with url alone: an instance has either site and port, or url`
  }
  if (LATER.has(key)) return `${key} is not supported in this version; remove it`
  const near = nearest(key, known)
  const right = near === null ? `known here: ${known.join(', ')}` : `did you mean ${near}?`
  return `unknown key ${key}; ${right}`
}

const unknownValue = (input: unknown, values: readonly unknown[]): string => {
  if (typeof input !== 'string') return `write one of ${values.join(', ')}`
  const near = nearest(input, values.map(String))
  return near === null ? `write one of ${values.join(', ')}` : `did you mean ${near}?`
}

/**
 * Says one finding of the schema in words that an operator can act on. Values are not repeated:
 * somebody may have written a secret where its name belongs.
 *
 * @returns one line per unknown key for `unrecognized_keys`, else one line
 */
export const sentence: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'unrecognized_keys': {
      const shape: object = (issue.inst as z.ZodObject | undefined)?.def.shape ?? {}
      const known = Object.keys(shape)
      return issue.keys.map((key) => unknownKey(key, known)).join('\n')
    }
    case 'invalid_type': {
      if (issue.input === undefined) return 'is missing'
      const expected = KINDS[issue.expected] ?? issue.expected
      const found = kindOf(issue.input)
      const also = found === 'nothing' ? `; write ${expected} or remove the key` : ''
      if (issue.expected === 'int' && found === 'a number') return 'must be a whole number'
      return `must be ${expected}, not ${found}${also}`
    }
    case 'invalid_value':
      return unknownValue(issue.input, issue.values)
    case 'too_small':
      return `must be at least ${issue.minimum}`
    case 'too_big':
      return `must be at most ${issue.maximum}`
    case 'invalid_key':
      return issue.issues[0]?.message ?? 'this name is not allowed'
    case 'custom':
    case 'invalid_format':
    case 'invalid_union':
    case 'invalid_element':
    case 'not_multiple_of':
      return null // these carry their own sentence, written where the field is
  }
}
