/** Names of models with `*` in them: as plans and keys may list them, and as aliases. */

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
 * The alias by which a name means a model: that very text, else of the globs that match it the one with
 * most characters beside its stars, and of several the first by the alphabet. Null where none does.
 *
 * @param aliases every model's
 * @example aliasFor('claude-3-opus', ['claude-*', 'claude-3-*']) === 'claude-3-*'
 */
export function aliasFor(name: string, aliases: Iterable<string>): string | null {
  let best: string | null = null
  for (const alias of aliases) {
    if (alias === name) return alias
    if (!isGlob(alias) || !matchesModel(alias, name)) continue
    const more = best === null ? 1 : literals(alias) - literals(best)
    if (best === null || more > 0 || (more === 0 && alias < best)) best = alias
  }
  return best
}
