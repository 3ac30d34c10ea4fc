/** Reading fields out of a parsed JSON body whose shape nobody vouches for. */

export type Body = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is Body =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const objectAt = (body: Body, key: string): Body => {
  const value = body[key]
  return isObject(value) ? value : {}
}

export const numberAt = (body: Body, key: string): number | null => {
  const value = body[key]
  return typeof value === 'number' ? value : null
}

export const textAt = (body: Body, key: string): string | null => {
  const value = body[key]
  return typeof value === 'string' ? value : null
}

export const listAt = (body: Body, key: string): readonly unknown[] => {
  const value = body[key]
  return Array.isArray(value) ? value : []
}

/** A field that is one string or a list of them (`stop`). */
export const textsAt = (body: Body, key: string): string[] => {
  const value = body[key]
  if (typeof value === 'string') return [value]
  return listAt(body, key).filter((item): item is string => typeof item === 'string')
}
