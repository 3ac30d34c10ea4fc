/** What the commands print: results on stdout, complaints on stderr, colours on a terminal only. */
import process from 'node:process'
import pc from 'picocolors'
import type { Problem } from '../../durable-objects/fleet/check.ts'
import type { Failure } from './failure.ts'

const coloursFor = (stream: NodeJS.WriteStream) =>
  pc.createColors(stream.isTTY && !process.env['NO_COLOR'])

export const paint = coloursFor(process.stdout)
export const paintError = coloursFor(process.stderr)

export const print = (text: string): void => void process.stdout.write(`${text}\n`)
export const complain = (text: string): void => void process.stderr.write(`${text}\n`)
export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2))

/** Says why a command failed; with `json`, in the API's error shape on stdout. */
export function reportFailure({ message, details }: Failure, json: boolean): void {
  const { code = null, problems } = details
  if (json) printJson({ error: { message, code }, ...(problems ? { problems } : {}) })
  else complain(`${paintError.red('error:')} ${message}`)
}

const SECRET_FIELD = /(?:^|\.)(?:node_key|key_env|access\.(?:id|secret))$/
const PASSWORD_IN_URL = /:\/\/[^/\s]*@/

/**
 * Prints each mistake with the line it is in. Lines where a secret may have been written in place of
 * its name are left out: terminals and CI logs are read by others.
 */
export function complainOf(file: string, text: string, problems: readonly Problem[]): void {
  const lines = text.split(/\r?\n/)
  const hidden = new Set(
    problems.filter(({ path }) => SECRET_FIELD.test(path)).map(({ line }) => line),
  )
  for (const { path, line, column, message } of problems) {
    const where = paintError.bold(`${file}:${line}:${column}`)
    complain(path === '' ? `${where} ${message}` : `${where} ${paintError.cyan(path)} ${message}`)
    const source = lines[line - 1] ?? ''
    if (source.trim() === '' || hidden.has(line) || PASSWORD_IN_URL.test(source)) continue
    const indent = source.slice(0, column - 1).replaceAll(/[^\t]/g, ' ')
    complain(`  ${paintError.dim(source)}\n  ${indent}${paintError.red('^')}`)
  }
}

/** Columns as wide as their widest cell, two spaces apart. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const lineOf = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return [paint.dim(lineOf(head)), ...rows.map(lineOf)].join('\n')
}
