/** What models are called, and names with `*` in them: as plans and keys may list them, and as aliases. */

/** What a model may be called; slashes and colons are in use (`org/model:tag`). */
export const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/

export const isGlob = (pattern: string): boolean => pattern.includes('*')

/**
 * Whether a list's entry means a model: by its very name, or by a glob, where each `*` stands for any
 * run of characters, slashes included, and for nothing as well.
 *
 * @param name the model's own name; aliases have been resolved before
 * @example matchesModel('qwen-*', 'qwen-14b') is true, matchesModel('qwen-*', 'qwen') is not
 */
export function matchesModel(pattern: string, name: string): boolean {
  const [head = '', ...middle] = pattern.split('*')
  const tail = middle.pop()
  if (tail === undefined) return pattern === name
  const end = name.length - tail.length
  if (head.length > end || !name.startsWith(head) || !name.endsWith(tail)) return false
  // The leftmost place for each part leaves the most room for those after it: no need to go back.
  let at = head.length
  for (const part of middle) {
    const found = name.indexOf(part, at)
    if (found === -1 || found + part.length > end) return false
    at = found + part.length
  }
  return true
}

const literals = (glob: string): number => glob.replaceAll('*', '').length

/**
 * The order in which globs are tried, so that the first that matches is the closest: most characters beside
 * its stars, and of several the first by the alphabet.
 */
export function byCloseness(a: string, b: string): number {
  const fewer = literals(b) - literals(a)
  if (fewer !== 0) return fewer
  return a < b ? -1 : a > b ? 1 : 0
}

/**
 * The alias by which a name means a model: that very text, else the closest of the globs that match it.
 * Null where none does.
 *
 * @param aliases every model's
 * @example aliasFor('claude-3-opus', ['claude-*', 'claude-3-*']) === 'claude-3-*'
 */
export function aliasFor(name: string, aliases: Iterable<string>): string | null {
  const all = [...aliases]
  if (all.includes(name)) return name
  const globs = all.filter((alias) => isGlob(alias) && matchesModel(alias, name))
  return globs.toSorted(byCloseness)[0] ?? null
}
