/** `penstock setup`: walks an operator from an account and a fleet file to a first key. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { PROJECT } from '../local/bundle.ts'
import { callAdmin } from './admin-api.ts'
import { confirm } from './confirm.ts'
import { EXIT, Failure, Interrupted } from './failure.ts'
import { readFleet } from './files.ts'
import { print } from './output.ts'
import { askHidden, stopped } from './setup-prompt.ts'
import { runCommand, type Surroundings } from './setup-run.ts'
import { commandsOf, setUp, type Goal } from './setup-steps.ts'

interface Options {
  readonly env?: string
  readonly address?: string
  readonly tenant: string
  readonly yes?: boolean
  readonly print?: boolean
  readonly dryRun?: boolean
}

async function setup(file: string, options: Options): Promise<void> {
  const { text, fleet } = readFleet(file, false)
  const { env = '', tenant } = options
  const { worker, url: routed } = await deployment(env)
  const url = options.address ?? routed
  if (url === null) {
    throw new Failure(
      EXIT.invalid,
      `no address: write a custom domain into wrangler.toml (${env === '' ? 'routes' : `routes of [env.${env}]`}), or give --address`,
    )
  }
  if (!URL.canParse(url))
    throw new Failure(EXIT.invalid, 'the address must be whole, e.g. https://llm.example.com')
  const goal: Goal = { file, text, fleet, env, worker, url, tenant }
  if (options.print || options.dryRun) return print(commandsOf(goal).join('\n'))
  return setUp(surroundings(url, options.yes ?? false), goal)
}

interface Deployment {
  readonly name?: string | undefined
  readonly routes?:
    | readonly (string | { readonly pattern: string; readonly custom_domain?: boolean })[]
    | undefined
}

/**
 * What `wrangler.toml` says of an environment.
 * @throws Failure where there is no such environment, or the file has mistakes
 */
async function deployment(env: string): Promise<{ worker: string; url: string | null }> {
  const { unstable_readConfig } = await import('wrangler') // takes most of a second
  const path = existsSync('wrangler.toml') ? 'wrangler.toml' : join(PROJECT, 'wrangler.toml')
  let config: Deployment
  try {
    config = unstable_readConfig({ config: path, env }, { hideWarnings: true })
  } catch (cause) {
    const [, reason = 'cannot be read'] = /^ *- (.*)$/m.exec((cause as Error).message) ?? []
    throw new Failure(EXIT.invalid, `${path}: ${reason}`)
  }
  const domain = config.routes?.find((route) => typeof route !== 'string' && route.custom_domain)
  const host = typeof domain === 'object' ? domain.pattern : null
  return { worker: config.name ?? 'penstock', url: host === null ? null : `https://${host}` }
}

function surroundings(url: string, yes: boolean): Surroundings {
  return {
    run: runCommand,
    say: print,
    confirm: (question) => (yes ? Promise.resolve() : confirm(question).catch(toldStopped)),
    wants: async (question) => {
      if (yes || !process.stdin.isTTY) return false
      return confirm(question).then(
        () => true,
        (cause) => (cause instanceof Interrupted ? toldStopped(cause) : false),
      )
    },
    askSecret: async (name, hint) => (process.stdin.isTTY ? askHidden(name, hint) : ''),
    env: process.env,
    bytes: (count) => randomBytes(count),
    admin: (token, path, call) => {
      process.env['PENSTOCK_ADMIN_TOKEN'] = token
      return callAdmin(url, path, call)
    },
    answers: async () => {
      const signal = AbortSignal.timeout(5_000)
      const answer = await fetch(new URL('/healthz', url), { signal, redirect: 'manual' }).catch(
        () => null,
      )
      return answer?.ok === true && (await answer.text()).includes('"ok"')
    },
    sleep: (ms) => delay(ms),
  }
}

/** @throws Failure that knows of the steps before */
function toldStopped(cause: unknown): never {
  throw process.stdin.isTTY ? stopped() : cause
}

/** `setup` */
export function addSetupCommand(program: Command): void {
  program
    .command('setup')
    .summary('set up a router from a Cloudflare account and a fleet file')
    .description(
      "set up a router from a Cloudflare account and a fleet file: the Worker's secrets, its deployment, tunnels, the fleet, a first tenant and its key; asks before secrets, deployment and tunnels; run again, it goes on where it stopped",
    )
    .argument('[file]', 'the fleet file', 'fleet.yaml')
    .option('--env <name>', 'an environment of wrangler.toml, e.g. staging; without it, production')
    .option('--address <url>', 'URL of the router; without it, the custom domain in wrangler.toml')
    .option('--tenant <id>', 'id of the first tenant', 'first')
    .option(
      '--yes',
      'do not ask; secrets that only you know are taken from the environment, each by its name; makes no tunnel',
    )
    .option('--print', 'print the commands that do it, and do nothing')
    .option('--dry-run', 'the same as --print')
    .action(setup)
}
