#!/usr/bin/env node
/** The operator's command line: `penstock check`, `apply`, `status`, `key create` and so on. */
import process from 'node:process'
import { Command, CommanderError } from 'commander'
import { addBackupCommands } from './cli/backup.ts'
import { addCheckCommands } from './cli/check.ts'
import { addDiffCommand } from './cli/diff.ts'
import { addDrainCommands } from './cli/drain.ts'
import { EXIT, Failure } from './cli/failure.ts'
import { addFleetCommands } from './cli/fleet.ts'
import { addHistoryCommands } from './cli/history.ts'
import { addKeyCommands } from './cli/keys.ts'
import { addKitCommands } from './cli/kit.ts'
import { addOperatorCommands } from './cli/operators.ts'
import { reportFailure } from './cli/output.ts'
import { enterProfile, type Asked } from './cli/profiles.ts'
import { addRolloutCommand } from './cli/rollout.ts'
import { addSetupCommand } from './cli/setup.ts'
import { addSmokeCommand } from './cli/smoke.ts'
import manifest from '../package.json' with { type: 'json' }
import { addTenantCommands } from './cli/tenants.ts'
import { addUsageCommand } from './cli/usage.ts'

/** Whether a command talks to a router; `check` does so only when it is told which. */
const asksRouter = (command: Command, { url, profile }: Asked): boolean =>
  command.options.some(({ long }) => long === '--url') &&
  (command.name() !== 'check' || url !== undefined || profile !== undefined)

const isJson = process.argv.includes('--json')

const program = new Command('penstock')
  .description('Your own vLLM machines behind one public, OpenAI-compatible HTTPS API')
  .version(manifest.version)
  .option('--profile <name>', 'a router of ~/.config/penstock/config.yaml, or local')
  // By name alone: with the arguments of each there is no room for what it does.
  .configureHelp({ showGlobalOptions: true, subcommandTerm: (command) => command.name() })
  .configureOutput(isJson ? { writeErr: () => {} } : {}) // told below, as JSON
  .exitOverride()
  .hook('preAction', (_, command) => {
    const asked = { ...program.opts<Asked>(), ...command.opts<Asked>() }
    if (asksRouter(command, asked)) enterProfile(asked, process.env)
  })
  .addHelpText(
    'after',
    `
Which router: --url, --profile, PENSTOCK_URL, PENSTOCK_PROFILE, the local run of
this folder (.penstock), or the default profile.
Its token: PENSTOCK_ADMIN_TOKEN, or the variable that the profile names.
Exit codes: 0 done, 1 invalid input, 2 diff found a difference, 3 conflict,
4 not taken everywhere, 5 unreachable.`,
  )

addCheckCommands(program)
addDiffCommand(program)
addFleetCommands(program)
addHistoryCommands(program)
addRolloutCommand(program)
addDrainCommands(program)
addTenantCommands(program)
addKeyCommands(program)
addUsageCommand(program)
addBackupCommands(program)
addOperatorCommands(program)
addKitCommands(program)
addSetupCommand(program)
addSmokeCommand(program)
pointAtHelp(program)

try {
  await program.parseAsync()
} catch (cause) {
  if (cause instanceof CommanderError) {
    process.exitCode = cause.exitCode === 0 ? 0 : EXIT.invalid
    // Without --json commander has said why already.
    if (isJson && cause.exitCode !== 0) reportFailure(misused(cause), isJson)
  } else if (cause instanceof Failure) {
    reportFailure(cause, isJson)
    process.exitCode = cause.exit
  } else {
    throw cause
  }
}

/** What commander has found wrong, as a failure of ours. */
function misused({ code, message }: CommanderError): Failure {
  const isHelp = code === 'commander.help'
  const text = isHelp ? 'there is no such command' : message.replace(/^error: /, '')
  return new Failure(EXIT.invalid, text)
}

/** A mistake is told with the help of the very command that it was made in. */
function pointAtHelp(command: Command, above = ''): void {
  const name = `${above}${command.name()}`
  const lists = command.commands.length > 0 ? 'the commands' : 'its options'
  command.showHelpAfterError(`(${name} --help lists ${lists})`)
  for (const below of command.commands) pointAtHelp(below, `${name} `)
}
