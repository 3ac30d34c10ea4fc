/** Finding places in JSON as text, for edits that must keep every other byte. */

/** The place behind the closing quote of the string whose opening quote is at `at`. */
export function endOfString(json: string, at: number): number {
  for (let end = json.indexOf('"', at + 1); end !== -1; end = json.indexOf('"', end + 1)) {
    let escapes = 0
    while (json[end - 1 - escapes] === '\\') escapes++
    if (escapes % 2 === 0) return end + 1
  }
  return json.length
}

/** Where the value of a member at the top of an object begins; -1 where there is none. */
export const memberAt = (json: string, name: string): number => valueAt(json, [name])

/** Where the value begins that stands under these names, one inside the other; -1 where it does not. One pass (L28). */
export function valueAt(json: string, names: readonly string[]): number {
  let depth = 0
  let found = 0
  for (let at = json.indexOf('{'); at !== -1 && at < json.length; at++) {
    const char = json[at]
    if (char === '{' || char === '[') depth++
    else if (char === '}' || char === ']') depth--
    if (char !== '"') continue

    const end = endOfString(json, at)
    const value = depth <= found + 1 ? valueAfter(json, end) : -1
    if (value !== -1) {
      found = Math.min(found, depth - 1)
      if (json.slice(at + 1, end - 1) === names[found]) found++
      if (found === names.length) return value
    }
    at = end - 1
  }
  return -1
}

const COLON = /[ \t\r\n]*:[ \t\r\n]*/y

/** Where a member's value begins, if the string that ends at `end` is a member's name; else -1. */
function valueAfter(json: string, end: number): number {
  COLON.lastIndex = end
  return COLON.test(json) ? COLON.lastIndex : -1
}

/** Puts another string where this one stands, and nothing else; the text itself where another one does. */
export function stringReplaced(json: string, at: number, said: string, shown: string): string {
  if (at === -1 || json[at] !== '"') return json
  const usual = JSON.stringify(said)
  if (json.startsWith(usual, at)) {
    return json.slice(0, at) + JSON.stringify(shown) + json.slice(at + usual.length)
  }
  const end = endOfString(json, at)
  if (textOf(json.slice(at, end)) !== said) return json
  return json.slice(0, at) + JSON.stringify(shown) + json.slice(end)
}

function textOf(literal: string): unknown {
  try {
    return JSON.parse(literal)
  } catch {
    return null
  }
}
