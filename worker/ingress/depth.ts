/** Levels of lists and objects within each other; no API has more than a dozen, schemas some thirty. */
const DEEPEST = 200

/**
 * Whether a parsed body is so deeply nested that whatever goes through it by recursion, `JSON.stringify`
 * among them, would run out of stack. Does not recurse itself.
 */
export function isTooDeep(body: object): boolean {
  let level: object[] = [body]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEEPEST) return true
    const below: object[] = []
    for (const value of level) {
      for (const item of Object.values(value)) {
        if (typeof item === 'object' && item !== null) below.push(item as object)
      }
    }
    level = below
  }
  return false
}
