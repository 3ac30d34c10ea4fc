import { writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import { fleetJsonSchema } from '../../durable-objects/fleet/schema.ts'
import { EXIT, Failure } from './failure.ts'
import { readFleet, readText } from './files.ts'
import { paint, print, printJson } from './output.ts'

interface SchemaOptions {
  readonly out?: string
  readonly check?: string
  readonly json?: true
}

function schema({ out, check, json }: SchemaOptions): void {
  const text = `${JSON.stringify(fleetJsonSchema(), null, 2)}\n`
  if (check !== undefined && readText(check) !== text) {
    throw new Failure(
      EXIT.invalid,
      `${check} is not up to date; write it anew with: penstock schema --out ${check}`,
    )
  }
  if (out !== undefined) writeFileSync(out, text)
  if (out === undefined && check === undefined) print(text.trimEnd())
  else if (json) printJson({ file: out ?? check, upToDate: true })
}

/** The commands that need no network: `check` and `schema`. */
export function addCheckCommands(program: Command): void {
  program
    .command('check')
    .description('find every mistake in a fleet file')
    .argument('[file]', 'the fleet file', 'fleet.yaml')
    .option('--json', 'print JSON')
    .action((file: string, { json = false }: { json?: boolean }) => {
      const { fleet } = readFleet(file, json)
      const counts = {
        models: Object.keys(fleet.models).length,
        pools: Object.keys(fleet.pools).length,
      }
      if (json) printJson({ ok: true, ...counts, problems: [] })
      else print(`${paint.green('ok')} ${file}: models ${counts.models}, pools ${counts.pools}`)
    })
  program
    .command('schema')
    .description('print the JSON Schema that editors check fleet files with')
    .option('--out <file>', 'write it to a file')
    .option('--check <file>', 'fail unless the file is what would be written')
    .option('--json', 'print JSON')
    .action(schema)
}
