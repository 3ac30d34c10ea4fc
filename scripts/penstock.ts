#!/usr/bin/env node
/** The operator's command line: `penstock check`, `apply`, `status`, `key create` and so on. */
import process from 'node:process'
import { Command, CommanderError } from 'commander'
import { addBackupCommands } from './cli/backup.ts'
import { addCheckCommands } from './cli/check.ts'
import { EXIT, Failure } from './cli/failure.ts'
import { addFleetCommands } from './cli/fleet.ts'
import { addKeyCommands } from './cli/keys.ts'
import { addKitCommands } from './cli/kit.ts'
import { reportFailure } from './cli/output.ts'
import { addTenantCommands } from './cli/tenants.ts'
import { addUsageCommand } from './cli/usage.ts'

const program = new Command('penstock')
  .description('Your own vLLM machines behind one public, OpenAI-compatible HTTPS API')
  .version('0.1.0')
  .showHelpAfterError('(penstock --help lists the commands)')
  .exitOverride()
  .addHelpText(
    'after',
    `
Environment: PENSTOCK_URL, PENSTOCK_ADMIN_TOKEN; without them, the local run of this folder (.penstock).
Exit codes: 0 done, 1 invalid input, 3 conflict, 4 not taken everywhere, 5 unreachable.`,
  )

addCheckCommands(program)
addFleetCommands(program)
addTenantCommands(program)
addKeyCommands(program)
addUsageCommand(program)
addBackupCommands(program)
addKitCommands(program)

try {
  await program.parseAsync()
} catch (cause) {
  if (cause instanceof CommanderError) {
    process.exitCode = cause.exitCode === 0 ? 0 : EXIT.invalid // commander has said why already
  } else if (cause instanceof Failure) {
    reportFailure(cause, process.argv.includes('--json'))
    process.exitCode = cause.exit
  } else {
    throw cause
  }
}
