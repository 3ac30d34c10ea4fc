/**
 * From an account and a fleet file to a first key. Each step looks at what is there and leaves it as it is:
 * run again after whatever stopped it, setup goes on where it was.
 */
import type { PoolTook, VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import type { KeyEntry } from '../../durable-objects/tenant/contract.ts'
import { EXIT, Failure } from './failure.ts'
import { notTaken } from './new-version.ts'
import { typed, wrangler, type Surroundings } from './setup-run.ts'
import { OWN_SECRETS, neededSecrets, setMissing } from './setup-secrets.ts'
import { createTunnel, onSite, routeDns, setUpSite, tunnelled } from './setup-sites.ts'

export interface Goal {
  /** Name of the fleet file. */
  readonly file: string
  readonly text: string
  readonly fleet: FleetFile
  /** Of wrangler.toml; '' is production. */
  readonly env: string
  /** The Worker's name. */
  readonly worker: string
  /** Base URL of the router. */
  readonly url: string
  /** Id of the first tenant. */
  readonly tenant: string
}

/** How often it is looked whether a fresh hostname answers, and for how long. */
const LOOK_MS = 5_000
const LOOKS = 36

/**
 * @throws Failure where a step cannot be done, what was done before it stays; and at the end, where all is done
 *   but a pool has not taken the fleet
 */
export async function setUp(around: Surroundings, goal: Goal): Promise<void> {
  await logIn(around)
  const { made, values } = await setMissing(around, goal)
  showOnce(around, made)
  await deploy(around, goal)
  for (const site of tunnelled(goal.fleet)) await setUpSite(around, site, goal.file)
  const token = await adminToken(around, values)
  const left = await applyFirst(around, goal, token)
  await firstTenant(around, goal, token)
  around.say('Once `npx penstock status` shows the instances as ready, try it all from outside:')
  around.say(`  ${smokeCommand(goal)}`)
  if (left.length > 0) throw incomplete(left, goal)
}

/** In the words of `apply`, and what to do: setup itself does not apply a file that is applied. */
function incomplete(left: readonly PoolTook[], { file, url }: Goal): Failure {
  const again = `push the fleet again: PENSTOCK_ADMIN_TOKEN=<value of ADMIN_TOKEN> npx penstock apply ${file} --url ${url}`
  return new Failure(EXIT.notTakenEverywhere, [...left.map(notTaken), again].join('\n'))
}

const smokeCommand = ({ url }: Goal): string =>
  `PENSTOCK_KEY=<the key> npx penstock smoke --url ${url}`

async function logIn({ run, say, confirm }: Surroundings): Promise<void> {
  const who = () => run(['npx', 'wrangler', 'whoami', '--json'])
  const first = await who()
  if (first.exit === 0) return say('wrangler is logged in')
  if (first.exit === 127) throw new Failure(EXIT.invalid, 'npx is not here: install Node first')
  await confirm('wrangler is not logged in. Run `npx wrangler login`?')
  await run(['npx', 'wrangler', 'login'], { shown: true })
  if ((await who()).exit !== 0) throw new Failure(EXIT.invalid, 'wrangler is still not logged in')
}

function showOnce({ say }: Surroundings, made: ReadonlyMap<string, string>): void {
  if (made.size === 0) return
  say('Made here, and shown this once: keep them in your password manager now.')
  for (const [name, value] of made) say(`  ${name}=${value}`)
}

async function deploy(
  { run, say, confirm, answers, sleep }: Surroundings,
  goal: Goal,
): Promise<void> {
  const { env, worker, url } = goal
  if (await answers()) return say(`${url} answers: it is deployed already`)
  await confirm(`Deploy the Worker ${worker} to ${url}?`)
  const { exit } = await run(wrangler(env, 'deploy'), { shown: true })
  if (exit !== 0) throw new Failure(EXIT.invalid, `wrangler deploy failed (exit code ${exit})`)
  for (let look = 0; look < LOOKS; look++) {
    if (await answers()) return say(`${url} answers`)
    await sleep(LOOK_MS) // a new hostname gets its certificate
  }
  throw new Failure(
    EXIT.unreachable,
    `${url} does not answer yet: its certificate may take minutes; then run setup again`,
  )
}

async function adminToken(
  { env, askSecret }: Surroundings,
  values: ReadonlyMap<string, string>,
): Promise<string> {
  const token =
    values.get('ADMIN_TOKEN') ??
    (env['PENSTOCK_ADMIN_TOKEN'] || (await askSecret('ADMIN_TOKEN', 'needed')))
  if (token) return token
  throw new Failure(
    EXIT.invalid,
    'ADMIN_TOKEN was set before: put its value into PENSTOCK_ADMIN_TOKEN for the steps that are left',
  )
}

/** @returns the pools that have not taken what was applied */
async function applyFirst(
  { admin, say }: Surroundings,
  goal: Goal,
  token: string,
): Promise<readonly PoolTook[]> {
  const { file, text, url } = goal
  const current = await orNull(admin<VersionFile>(token, ['fleet']), 'fleet_not_found')
  if (current) {
    say(
      current.yaml === text
        ? `${file} is applied already, as version ${current.version}`
        : `${url} has a fleet, version ${current.version}; see npx penstock diff ${file}`,
    )
    return []
  }
  const call = { method: 'PUT', body: text, ifMatch: 0, query: { message: 'setup' } } as const
  const applied = await admin<{ version: number; pools: readonly PoolTook[] }>(
    token,
    ['fleet'],
    call,
  )
  say(`applied ${file} as version ${applied.version}`)
  return applied.pools.filter(({ taken }) => !taken)
}

async function firstTenant({ admin, say }: Surroundings, goal: Goal, token: string): Promise<void> {
  const { tenant } = goal
  const path = ['tenants', tenant]
  const known = await orNull(admin<object>(token, path), 'tenant_not_found')
  if (known) say(`tenant ${tenant} is there already`)
  else {
    await admin(token, ['tenants'], { method: 'POST', body: { id: tenant } })
    say(`tenant ${tenant} created, without a plan and so without limits`)
  }
  const { keys } = await admin<{ keys: readonly KeyEntry[] }>(token, [...path, 'keys'])
  if (keys.some(({ revoked }) => revoked === null)) {
    return say(`it has a key already; another: npx penstock key create ${tenant}`)
  }
  const body = { name: 'first' }
  const created = await admin<{ key: string }>(token, [...path, 'keys'], { method: 'POST', body })
  say(`its key, shown this once: ${created.key}`)
}

/** What an answer is, or null where it is refused for one reason. */
async function orNull<T>(asked: Promise<T>, code: string): Promise<T | null> {
  try {
    return await asked
  } catch (cause) {
    if (cause instanceof Failure && cause.details.code === code) return null
    throw cause
  }
}

/** All that setup would do, as commands in their order; nothing is looked at or done. */
export function commandsOf(goal: Goal): readonly string[] {
  const { fleet, env, file, tenant, url } = goal
  const own: readonly string[] = OWN_SECRETS
  const nodeKeys = tunnelled(fleet).map(({ nodeKey }) => nodeKey)
  const put = neededSecrets(fleet).map((name) => {
    const command = typed(wrangler(env, 'secret', 'put', name))
    return own.includes(name) || nodeKeys.includes(name)
      ? `openssl rand -hex 32 | tee /dev/stderr | ${command}`
      : `${command}  # asks for its value`
  })
  return [
    `npx penstock check ${file}`,
    'npx wrangler login',
    ...put,
    typed(wrangler(env, 'deploy')),
    ...tunnelled(fleet).flatMap((site) => [
      `# on the machine of site ${site.id}`,
      'cloudflared tunnel login',
      ...[createTunnel(site), ...routeDns(site)].map(typed),
      ...onSite(site, file),
    ]),
    '# here',
    `export PENSTOCK_URL=${url} PENSTOCK_ADMIN_TOKEN=<value of ADMIN_TOKEN>`,
    `npx penstock apply ${file}`,
    'npx penstock status',
    `npx penstock tenant create ${tenant}`,
    `npx penstock key create ${tenant} --name first`,
    smokeCommand(goal),
  ]
}
