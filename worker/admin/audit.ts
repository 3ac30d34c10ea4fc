import { Hono } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { AuditEntry } from '../../durable-objects/operators/contract.ts'
import { addressOf, type Ctx } from '../entrance.ts'
import { operatorsObject, type AppEnv } from '../env.ts'
import { reach } from '../refusal.ts'
import { pageSize } from './accounts.ts'
import { wrong } from './input.ts'
import { routeCalled } from './permissions.ts'
import { OPERATORS_SERVICE } from './words.ts'

/** Longest path that is written down, in letters. */
const TARGET_LENGTH = 200
/** What looks like a key or a token of ours has no place in a path; somebody will paste one there. */
const SECRET = /\bps[ko]_[\w-]+/g
/** What an answer may call the thing that was made. */
const MADE = /^[\w.@-]{1,64}$/

export const auditRoutes = new Hono<AppEnv>()

auditRoutes.get('/', async (c) => {
  const { after, limit } = c.req.query()
  const page = {
    after: after === undefined ? null : lineNumber(after),
    limit: pageSize(limit, { usual: 100, most: 1_000 }),
  }
  const { lines, next } = await reach(OPERATORS_SERVICE, () => operatorsObject(c.env).audit(page))
  return c.json({ lines, next: next === null ? null : String(next) })
})

/**
 * Writes down each call that is to change something, refused ones too, behind its back: nobody waits for
 * it. Who is told to stop for having shown one bad token after another is not written down any more. A
 * line that cannot be written goes to the Worker's own log.
 */
export const audited = createMiddleware<AppEnv>(async (c, next) => {
  const at = Date.now()
  const route = routeCalled(c)
  await next()
  if (c.req.method === 'GET' || c.req.method === 'HEAD' || route?.reads) return
  const named = c.get('operator')?.name ?? c.get('stranger') ?? null
  if (named === null && c.res.status === TOO_MANY) return
  const entry: Omit<AuditEntry, 'made'> = {
    at,
    operator: named,
    role: c.get('operator')?.role ?? null,
    method: c.req.method,
    route: route?.path ?? null,
    target: targetOf(c.req.path),
    status: c.res.status,
    request: c.get('receipt').requestId,
    address: addressOf(c),
  }
  c.executionCtx.waitUntil(record(c, entry, isAnswer(c.res) ? c.res.clone() : null))
})

const TOO_MANY = 429

async function record(
  { env }: Ctx,
  entry: Omit<AuditEntry, 'made'>,
  answer: Response | null,
): Promise<void> {
  const made = answer && madeBy(await answer.json().catch(() => null))
  const whole: AuditEntry = { ...entry, made }
  try {
    await reach(OPERATORS_SERVICE, () => operatorsObject(env).record(whole))
  } catch (cause) {
    console.error(`${entry.request} audit line not kept: ${JSON.stringify(whole)}`, cause)
  }
}

const isAnswer = ({ ok, headers }: Response): boolean =>
  ok && (headers.get('content-type') ?? '').startsWith('application/json')

/** The id, or the fleet version, that an answer names. Nothing else of it is read. */
function madeBy(answer: unknown): string | null {
  const { id, version } = (answer ?? {}) as { readonly id?: unknown; readonly version?: unknown }
  if (typeof version === 'number') return String(version)
  return typeof id === 'string' && MADE.test(id) ? id : null
}

/** A path as it may be shown: legible, of one line, without secrets. */
export function targetOf(path: string): string {
  return legible(path)
    .replace(SECRET, (secret) => `${secret.slice(0, 4)}…`)
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
    .slice(0, TARGET_LENGTH)
}

function legible(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

function lineNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw wrong('after', '"after" must be the "next" of the page before.')
}
