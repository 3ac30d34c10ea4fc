import type { z } from 'zod'
import { sentence } from '../../durable-objects/fleet/sentences.ts'
import { parseObject } from '../json.ts'
import { Refusal } from '../refusal.ts'

/** What an operator sends by hand is small. */
const MAX_BYTES = 64 * 1024
/** A part of a backup, in bytes: what one call to an object may carry is 32 MiB. */
export const MAX_BACKUP_BYTES = 30 * 1024 * 1024

/**
 * A body's JSON, checked. No body means an empty object.
 * @param maxBytes the most that is read, in bytes
 * @throws Refusal `invalid_json`, `body_too_large`; `invalid_value` names the first field that is wrong
 */
export async function inputOf<T extends z.ZodType>(
  request: Request,
  schema: T,
  maxBytes: number = MAX_BYTES,
): Promise<z.output<T>> {
  const text = await request.text()
  if (text.length > maxBytes) {
    throw new Refusal('body_too_large', `The body is at most ${sizeOf(maxBytes)}.`)
  }
  const body = text === '' ? {} : parseObject(text)
  if (!body) throw new Refusal('invalid_json', 'The body must be a JSON object.')
  return checked(schema, body)
}

/** @throws Refusal `invalid_value`, with the first field that is wrong in `param` */
export function checked<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value, { error: sentence })
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const path = (issue?.path ?? []).map(String)
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  const [line = 'is not as it should be'] = (issue?.message ?? '').split('\n')
  throw wrong([...path, ...unknown].join('.'), `${path.join('.') || 'body'}: ${line}`)
}

/** @param param the field, or query parameter, that is wrong; a path with dots */
export const wrong = (param: string, message: string): Refusal =>
  new Refusal('invalid_value', message, { ...(param !== '' && { param }) })

const sizeOf = (bytes: number): string =>
  bytes < 1024 * 1024 ? `${bytes / 1024} KiB` : `${bytes / 1024 / 1024} MiB`
