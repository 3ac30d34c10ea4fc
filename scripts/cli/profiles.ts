/**
 * Routers by name: `penstock status --profile prod`. A profile says where a router is and which
 * environment variable has its token, so that it stands in for PENSTOCK_URL and PENSTOCK_ADMIN_TOKEN.
 */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import { sentence } from '../../durable-objects/fleet/sentences.ts'
import { EXIT, Failure } from './failure.ts'
import { readText } from './files.ts'

/** The local run of this folder; no profile of the file may be called so. */
const LOCAL = 'local'
const LOCAL_FILE = '.penstock/local.json'
const TOKEN_ENV = 'PENSTOCK_ADMIN_TOKEN'

const NO_TOKEN =
  'a token is never written here: put it into an environment variable, and name that in token_env'
const VARIABLE =
  'name an environment variable, e.g. PROD_TOKEN; the token itself is never written here'

const Profile = z.strictObject({
  url: z.url({ protocol: /^https?$/, error: 'write the whole URL, e.g. https://llm.example.com' }),
  token_env: z
    .string({ error: VARIABLE })
    .regex(/^[A-Z][A-Z0-9_]{0,127}$/, VARIABLE)
    .default(TOKEN_ENV),
})

const Config = z.strictObject({
  default: z.string().optional(),
  profiles: z.record(z.string(), Profile).default({}),
})
export type Config = z.output<typeof Config>

type Environment = Readonly<Record<string, string | undefined>>

/** `$XDG_CONFIG_HOME/penstock/config.yaml`, else the same below `~/.config`. */
export const configFile = (env: Environment): string =>
  join(env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'penstock/config.yaml')

/**
 * Reads the text of a config file.
 * @param file for messages
 * @throws Failure naming the first mistake, and never a value
 */
export function parseConfig(text: string, file: string): Config {
  let data: unknown
  try {
    data = parse(text, { prettyErrors: false }) ?? {}
  } catch {
    throw new Failure(EXIT.invalid, `${file} is not YAML`)
  }
  const parsed = Config.safeParse(data, { error: sentence })
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const at = (issue?.path ?? []).join('.')
    const isToken =
      issue?.code === 'unrecognized_keys' && issue.keys.some((key) => /token/i.test(key))
    const what = isToken ? NO_TOKEN : (issue?.message.split('\n')[0] ?? 'cannot be read')
    throw new Failure(EXIT.invalid, `${file}: ${at === '' ? '' : `${at}: `}${what}`)
  }
  const { default: chosen, profiles } = parsed.data
  if (Object.hasOwn(profiles, LOCAL)) {
    throw new Failure(
      EXIT.invalid,
      `${file}: ${LOCAL} means the local run of a folder; use another name`,
    )
  }
  if (chosen !== undefined && chosen !== LOCAL) profileNamed(chosen, parsed.data, file)
  return parsed.data
}

function profileNamed(name: string, { profiles }: Config, file: string): z.output<typeof Profile> {
  const profile = Object.hasOwn(profiles, name) ? profiles[name] : undefined
  if (profile) return profile
  const near = nearest(name, Object.keys(profiles))
  const hint = near === null ? '' : `; did you mean ${near}?`
  throw new Failure(EXIT.invalid, `${file} has no profile ${name}${hint}`)
}

export interface Asked {
  readonly url?: string | undefined
  readonly profile?: string | undefined
}

interface Surroundings {
  /** Null: there is no config file. Read only when it matters. */
  readonly readConfig: () => Config | null
  /** Its name, for messages. */
  readonly file: string
  readonly hasLocalRun: boolean
}

/** What the environment is to say from here on; a variable that is null is to be taken out. */
export type Settled = Readonly<Record<string, string | null>>

/**
 * Which router is meant: `--url`, `--profile`, PENSTOCK_URL, PENSTOCK_PROFILE, the local run of this
 * folder, the default profile; the first of these that is there. But a local run comes and goes: with a
 * default profile beside it, nobody who forgot about either should hit the wrong router.
 *
 * @throws Failure where it cannot be told, or the profile's token is not there
 */
export function settle(
  { url, profile }: Asked,
  env: Environment,
  { readConfig, file, hasLocalRun }: Surroundings,
): Settled {
  if (url !== undefined && profile !== undefined) {
    throw new Failure(EXIT.invalid, 'give either --url or --profile')
  }
  if (url !== undefined || (profile === undefined && env['PENSTOCK_URL'])) return {}
  const config = readConfig()
  const named = profile ?? (env['PENSTOCK_PROFILE'] || undefined)
  const chosen = named ?? config?.default
  if (chosen === undefined) return {}
  if (chosen === LOCAL) return { PENSTOCK_URL: null }
  if (named === undefined && hasLocalRun) {
    throw new Failure(
      EXIT.invalid,
      `which router? this folder has a local run, and ${file} has a default: say --profile ${LOCAL} or --profile ${chosen}`,
    )
  }
  if (!config) throw new Failure(EXIT.invalid, `there are no profiles: ${file} does not exist`)
  const { url: there, token_env } = profileNamed(chosen, config, file)
  const token = env[token_env]
  if (!token) {
    throw new Failure(EXIT.invalid, `set ${token_env} to the token of profile ${chosen}`)
  }
  return { PENSTOCK_URL: there, [TOKEN_ENV]: token }
}

/** Lets the environment of this process name the router that is meant. */
export function enterProfile(asked: Asked, env: NodeJS.ProcessEnv): void {
  const file = configFile(env)
  const readConfig = () => (existsSync(file) ? parseConfig(readText(file), file) : null)
  const hasLocalRun = existsSync(LOCAL_FILE)
  for (const [name, value] of Object.entries(
    settle(asked, env, { readConfig, file, hasLocalRun }),
  )) {
    if (value === null) delete env[name]
    else env[name] = value
  }
}
