import { Hono } from 'hono'
import { checkFleet, type Problem } from '../../durable-objects/fleet/check.ts'
import { fleetObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { FLEET_SERVICE } from './words.ts'

/** Largest fleet file, in bytes: far above any fleet, far below an object's row limit of 2 MB. */
const MAX_FLEET_BYTES = 1024 * 1024

export const fleetRoutes = new Hono<AppEnv>()

fleetRoutes.get('/', async (c) => {
  const file = await reach(FLEET_SERVICE, () => fleetObject(c.env).file(null))
  if (!file) throw new Refusal('fleet_not_found', 'No fleet has been applied yet.')
  return c.json(file)
})

fleetRoutes.put('/', async (c) => {
  const yaml = await readFile(c.req.raw)
  const ifVersion = versionIn(c.req.header('if-match'))
  const applied = await reachOnce(FLEET_SERVICE, () =>
    fleetObject(c.env).apply({ yaml, ifVersion }),
  )
  switch (applied.kind) {
    case 'applied':
      return c.json({ version: applied.version, changed: applied.changed, pools: applied.pools })
    case 'conflict':
      throw new Refusal(
        'conflict',
        `The current fleet version is ${applied.version}, not ${ifVersion}: somebody else has applied meanwhile.`,
        { extra: { version: applied.version } },
      )
    case 'invalid':
      throw invalidFleet(applied.problems)
  }
})

fleetRoutes.post('/check', async (c) => {
  const checked = checkFleet(await readFile(c.req.raw))
  return c.json(checked.ok ? { ok: true, problems: [] } : checked)
})

fleetRoutes.get('/versions', async (c) => {
  const versions = await reach(FLEET_SERVICE, () => fleetObject(c.env).versions())
  return c.json({ versions })
})

fleetRoutes.get('/versions/:version{[0-9]+}', async (c) => {
  const version = Number(c.req.param('version'))
  const file = await reach(FLEET_SERVICE, () => fleetObject(c.env).file(version))
  if (!file) throw new Refusal('fleet_not_found', `There is no fleet version ${version}.`)
  return c.json(file)
})

async function readFile(request: Request): Promise<string> {
  const yaml = await request.text()
  if (yaml.length <= MAX_FLEET_BYTES) return yaml
  throw new Refusal('body_too_large', 'A fleet file is at most 1 MiB.')
}

export function invalidFleet(problems: readonly Problem[]): Refusal {
  const [first] = problems
  const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
  const where = first && `line ${first.line}, ${first.path}: ${first.message}`
  return new Refusal('invalid_fleet', `The fleet file has ${count}. The first: ${where}`, {
    extra: { problems },
  })
}

/** `If-Match: 7` or, as HTTP writes entity tags, `"7"`; null without the header. */
function versionIn(ifMatch: string | undefined): number | null {
  if (ifMatch === undefined || ifMatch === '*') return null
  const digits = /^"?(\d+)"?$/.exec(ifMatch)?.[1]
  if (digits !== undefined) return Number(digits)
  throw new Refusal('invalid_value', 'If-Match must be a fleet version, such as If-Match: 7.')
}
