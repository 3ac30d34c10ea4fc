import process from 'node:process'
import type { Command } from 'commander'
import { changesTo, currentFleet, printDifferences } from './changes.ts'
import { EXIT, Failure } from './failure.ts'
import { readFleet } from './files.ts'
import { networked, type Networked } from './fleet.ts'
import { print, printJson } from './output.ts'

async function diff(file: string, { url, json = false }: Networked): Promise<void> {
  const { text } = readFleet(file, json)
  const { version, differences, isSame } = changesTo(text, await currentFleet(url))
  if (differences === null) {
    throw new Failure(
      EXIT.invalid,
      `version ${version} was written for another release: what changes cannot be told`,
    )
  }
  if (json) printJson({ version, differences })
  else if (differences.length > 0) printDifferences(differences)
  else {
    const but = isSame ? '' : ', but in how it is written'
    print(`no difference from version ${version}${but}`)
  }
  if (differences.length > 0) process.exitCode = EXIT.different
}

/** The command `diff`. */
export function addDiffCommand(program: Command): void {
  networked(program.command('diff'))
    .summary('say what would change if a fleet file were applied')
    .description('say what would change if a fleet file were applied; exits 2 if anything would')
    .argument('[file]', 'the fleet file', 'fleet.yaml')
    .action(diff)
}
