import { readFileSync } from 'node:fs'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
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
  throw new Failure(EXIT.invalid, `${count(problems.length)} in ${file}`, {
    code: 'invalid_fleet',
    problems,
  })
}
