import { readFileSync, writeFileSync } from 'node:fs'
import { checkFleet, type Problem } from '../../durable-objects/fleet/check.ts'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { EXIT, Failure } from './failure.ts'
import { complainOf } from './output.ts'

/** Reads a text file. @throws Failure when it cannot be read */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'there is no such file' : String(code)
    throw new Failure(EXIT.invalid, `cannot read ${file}: ${why}`)
  }
}

/** Writes a text file. @throws Failure when it cannot be written */
export function writeText(file: string, text: string): void {
  try {
    writeFileSync(file, text)
  } catch (cause) {
    throw cannotWrite(file, cause)
  }
}

/** For what the system says of a file that was to be written. */
export function cannotWrite(file: string, cause: unknown): Failure {
  const { code, message } = cause as NodeJS.ErrnoException
  const why = code === 'ENOENT' ? 'there is no such folder' : message
  return new Failure(EXIT.invalid, `cannot write ${file}: ${why}`)
}

const count = (n: number): string => (n === 1 ? '1 mistake' : `${n} mistakes`)

/**
 * Reads and checks a fleet file, printing its mistakes unless `json`.
 * @throws Failure with the mistakes
 */
export function readFleet(file: string, json: boolean): { text: string; fleet: FleetFile } {
  const text = readText(file)
  const checked = checkFleet(text)
  if (checked.ok) return { text, fleet: checked.fleet }
  const { problems } = checked
  if (!json) complainOf(file, text, problems)
  throw mistaken(file, problems)
}

/**
 * A fleet file's mistakes, which have been told one by one.
 * @param by who says so, where it is not we
 */
export function mistaken(file: string, problems: readonly Problem[], by = ''): Failure {
  const message = `${count(problems.length)} in ${file}${by && `, says ${by}`}`
  return new Failure(EXIT.invalid, message, { code: 'invalid_fleet', problems })
}
