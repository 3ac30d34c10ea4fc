/** Names of models with `*` in them, as plans and keys may list them. */

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
