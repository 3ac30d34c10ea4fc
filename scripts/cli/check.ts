import type { Command } from 'commander'
import type { Problem } from '../../durable-objects/fleet/check.ts'
import { fleetJsonSchema } from '../../durable-objects/fleet/schema.ts'
import { callAdmin } from './admin-api.ts'
import { EXIT, Failure } from './failure.ts'
import { mistaken, readFleet, readText, writeText } from './files.ts'
import { complainOf, paint, print, printJson } from './output.ts'

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
  if (out !== undefined) writeText(out, text)
  if (out === undefined && check === undefined) print(text.trimEnd())
  else if (json) printJson({ file: out ?? check, upToDate: true })
}

interface CheckOptions {
  readonly url?: string
  readonly profile?: string
  readonly json?: boolean
}

async function check(file: string, { url, profile, json = false }: CheckOptions): Promise<void> {
  const { text, fleet } = readFleet(file, json)
  if (url !== undefined || profile !== undefined) await checkThere(file, text, { url, json })
  const counts = {
    models: Object.keys(fleet.models).length,
    pools: Object.keys(fleet.pools).length,
  }
  if (json) printJson({ ok: true, ...counts, problems: [] })
  else print(`${paint.green('ok')} ${file}: models ${counts.models}, pools ${counts.pools}`)
}

/** What only a router can know to be wrong: a secret that is not set, a field of a later release. */
async function checkThere(
  file: string,
  text: string,
  { url, json }: { readonly url: string | undefined; readonly json: boolean },
): Promise<void> {
  const { problems } = await callAdmin<{ problems: readonly Problem[] }>(url, ['fleet', 'check'], {
    method: 'POST',
    body: text,
  })
  if (problems.length === 0) return
  if (!json) complainOf(file, text, problems)
  throw mistaken(file, problems, 'the router')
}

/** The commands that need no network, unless they are told of a router: `check` and `schema`. */
export function addCheckCommands(program: Command): void {
  program
    .command('check')
    .description('find every mistake in a fleet file')
    .argument('[file]', 'the fleet file', 'fleet.yaml')
    .option('--url <url>', 'also ask this router, which knows its secrets')
    .option('--json', 'print JSON')
    .action((file: string, _: object, command: Command) =>
      check(file, command.optsWithGlobals<CheckOptions>()),
    )
  program
    .command('schema')
    .description('print the JSON Schema that editors check fleet files with')
    .option('--out <file>', 'write it to a file')
    .option('--check <file>', 'fail unless the file is what would be written')
    .option('--json', 'print JSON')
    .action(schema)
}
