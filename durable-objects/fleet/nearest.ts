/**
 * Edits between two words: insert, delete, replace, swap of neighbours (optimal string alignment).
 * Words here are keys and names of a few dozen letters, so the whole table is kept.
 */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)]
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1] ?? []
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      const edits = [(above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + cost]
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits.push((rows[i - 2]?.[j - 2] ?? 0) + 1)
      }
      row.push(Math.min(...edits))
    }
    rows.push(row)
  }
  return rows[a.length]?.[b.length] ?? 0
}

/**
 * The known name that was probably meant: at most two edits away (one for names of up to four
 * letters, where two edits would make anything of anything), case and `-`/`_` not counted.
 *
 * @returns null when nothing is near
 */
export function nearest(name: string, known: Iterable<string>): string | null {
  const plain = (word: string): string => word.toLowerCase().replaceAll('-', '_')
  const limit = name.length <= 4 ? 1 : 2
  let best: string | null = null
  let bestDistance = limit + 1
  for (const candidate of known) {
    const edits = distance(plain(name), plain(candidate))
    if (edits < bestDistance) [best, bestDistance] = [candidate, edits]
  }
  return best
}
