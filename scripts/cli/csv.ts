/** One line of a CSV file, by column; a column that it does not have is absent. */
export interface CsvLine {
  /** Where it begins in the file, from 1. */
  readonly number: number
  readonly cells: readonly string[]
}

export interface Csv {
  readonly lines: readonly CsvLine[]
  /** The line in which a quote begins that nothing ends, from 1: all after it was read as one cell. */
  readonly unclosed: number | null
}

/**
 * Reads CSV (RFC 4180): commas, quotes, line breaks within quotes. Empty lines are left out, as is the
 * mark that spreadsheets put at the beginning.
 */
export function readCsv(text: string): Csv {
  const lines: CsvLine[] = []
  let cells: string[] = []
  let cell = ''
  let quoted = false
  let quotedAt = 1
  let number = 1
  let started = 1
  const end = () => {
    cells.push(cell)
    if (cells.some((it) => it.trim() !== '')) lines.push({ number: started, cells })
    cells = []
    cell = ''
  }
  const source = text.replace(/^\u{feff}/u, '').replaceAll(/\r\n?/g, '\n')
  for (let i = 0; i < source.length; i++) {
    const letter = source.charAt(i)
    if (letter === '\n') number++
    if (quoted) {
      if (letter !== '"') cell += letter
      else if (source.charAt(i + 1) === '"') cell += source.charAt(i++)
      else quoted = false
    } else if (letter === '"' && cell.trim() === '') {
      quoted = true
      quotedAt = number
      cell = ''
    } else if (letter === ',') {
      cells.push(cell)
      cell = ''
    } else if (letter === '\n') {
      end()
      started = number
    } else cell += letter
  }
  end()
  return { lines, unclosed: quoted ? quotedAt : null }
}
