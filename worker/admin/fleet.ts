import { Hono } from 'hono'
import { z } from 'zod'
import type { Problem } from '../../durable-objects/fleet/check.ts'
import type { Applied, Intent, RolledBack } from '../../durable-objects/fleet/contract.ts'
import { checkDeployable } from '../../durable-objects/fleet/deployable.ts'
import { bytesOf } from '../../durable-objects/fleet/stored-size.ts'
import { secretsOf } from '../../durable-objects/fleet/target.ts'
import type { Ctx } from '../entrance.ts'
import { fleetObject, type AppEnv, type Bindings } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { checked, inputOf } from './input.ts'
import { operatorName } from './operator.ts'
import { FLEET_SERVICE } from './words.ts'

/** Largest fleet file that is read at all, in bytes; how much of it can be stored, its check says. */
const MAX_FLEET_BYTES = 1024 * 1024

export const fleetRoutes = new Hono<AppEnv>()

fleetRoutes.get('/', async (c) => {
  const file = await reach(FLEET_SERVICE, () => fleetObject(c.env).file(null))
  if (!file) throw new Refusal('fleet_not_found', 'No fleet has been applied yet.')
  return c.json(file)
})

fleetRoutes.put('/', async (c) => {
  const yaml = await readFile(c.req.raw)
  // Not a header: those carry no text but ASCII.
  const { message } = checked(Why, { message: c.req.query('message') })
  const intent = intentOf(c, message)
  return c.json(
    answerTo(
      await reachOnce(FLEET_SERVICE, () => fleetObject(c.env).apply({ yaml, ...intent })),
      intent,
    ),
  )
})

fleetRoutes.post('/rollback', async (c) => {
  const { version = null, message } = await inputOf(c.req.raw, RollbackInput)
  const intent = intentOf(c, message)
  return c.json(
    answerTo(
      await reachOnce(FLEET_SERVICE, () => fleetObject(c.env).rollback({ version, ...intent })),
      intent,
    ),
  )
})

fleetRoutes.post('/check', async (c) => {
  const result = checkDeployable(await readFile(c.req.raw), hasSecret(c.env))
  return c.json(result.ok ? { ok: true, problems: [] } : result)
})

fleetRoutes.get('/versions', async (c) => {
  const versions = await reach(FLEET_SERVICE, () => fleetObject(c.env).versions())
  return c.json({ versions })
})

fleetRoutes.get('/versions/:version{[0-9]+}', async (c) => {
  const version = Number(c.req.param('version'))
  const file = await reach(FLEET_SERVICE, () => fleetObject(c.env).file(version))
  if (!file) throw noVersion(version)
  return c.json(file)
})

/** Characters that change how a line is shown, and not what it says; joiners make letters and emoji whole. */
const INVISIBLE = /(?![\u200C\u200D])\p{Cf}/gu

/** Why something is changed: one line, since it is shown in tables. */
export const Why = z.strictObject({
  message: z
    .string()
    .trim()
    .max(500, 'must be at most 500 characters')
    .regex(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u, 'must be one line of text')
    .transform((text) => text.replaceAll(INVISIBLE, ''))
    .optional(),
})
const RollbackInput = Why.extend({ version: z.int().min(1).optional() })

const hasSecret = (env: Bindings) => {
  const secretOf = secretsOf(env)
  return (name: string): boolean => secretOf(name) !== undefined
}

const intentOf = (c: Ctx, message: string | undefined): Intent => ({
  by: operatorName(c),
  message: message || null,
  secrets: Object.keys(c.env).filter(hasSecret(c.env)),
  ifVersion: versionIn(c.req.header('if-match')),
})

/** What came of making a version. @throws Refusal `conflict`, `invalid_fleet`, `fleet_not_found` */
function answerTo(done: Applied | RolledBack, { ifVersion }: Intent): object {
  switch (done.kind) {
    case 'applied':
      return {
        version: done.version,
        changed: done.changed,
        pools: done.pools,
        ended: done.ended ?? [],
      }
    case 'conflict':
      throw new Refusal(
        'conflict',
        `The current fleet version is ${done.version}, not ${ifVersion}: ${done.by ?? 'somebody else'} has made it meanwhile.`,
        { extra: { version: done.version } },
      )
    case 'invalid':
      throw invalidFleet(done.problems, 'version' in done ? done.version : null)
    case 'no-version':
      throw done.version === null
        ? new Refusal('fleet_not_found', 'There is no older fleet version to go back to.')
        : noVersion(done.version)
  }
}

const noVersion = (version: number): Refusal =>
  new Refusal('fleet_not_found', `There is no fleet version ${version}.`)

async function readFile(request: Request): Promise<string> {
  const yaml = await request.text()
  if (bytesOf(yaml) <= MAX_FLEET_BYTES) return yaml
  throw new Refusal('body_too_large', 'A fleet file is at most 1 MiB.')
}

/** @param version whose file it is; null: the one that was sent */
export function invalidFleet(problems: readonly Problem[], version: number | null = null): Refusal {
  const [first] = problems
  const file = version === null ? 'The fleet file' : `The file of version ${version}`
  const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
  const where = first && `line ${first.line}, ${first.path}: ${first.message}`
  return new Refusal('invalid_fleet', `${file} has ${count}. The first: ${where}`, {
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
