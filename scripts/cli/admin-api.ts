/** Calls the admin API and sorts what can go wrong into exit codes. */
import { existsSync, readFileSync } from 'node:fs'
import process from 'node:process'
import { isPrivateHost } from '../../durable-objects/fleet/address.ts'
import type { Problem } from '../../durable-objects/fleet/check.ts'
import { EXIT, Failure } from './failure.ts'
import { ownToken } from './token.ts'

const LOCAL_FILE = '.penstock/local.json'
const TIMEOUT_MS = 30_000
/**
 * The `x-request-id` that every answer of a router has: another service's JSON is no answer. A proxy on the
 * way may have added its own.
 */
const REQUEST_ID = /(?:^|, *)req_[0-9a-f]{32}(?:,|$)/

/** A router that somebody means. */
interface Place {
  readonly url: URL
  /** What the local run keeps of itself, where it is the one that is meant. */
  readonly local: LocalRun
  /** Whether it was named: a token of the environment is meant for it then. */
  readonly isNamed: boolean
}

interface LocalRun {
  readonly url?: string
  readonly apiKey?: string
  readonly adminToken?: string
}

/** The local run of this folder, when there is one. */
function localRun(): LocalRun {
  if (!existsSync(LOCAL_FILE)) return {}
  try {
    return JSON.parse(readFileSync(LOCAL_FILE, 'utf8')) as object
  } catch {
    return {} // half gone: the run is just ending
  }
}

const sameUrl = (a: string, b: string | undefined): boolean =>
  b !== undefined && URL.canParse(a) && URL.canParse(b) && new URL(a).href === new URL(b).href

/**
 * `--url`, else PENSTOCK_URL, else the local run.
 * @param secret what would go there and must not travel unencrypted
 * @throws Failure
 */
export function placeOf(urlOption: string | undefined, secret: string): Place {
  const local = localRun()
  const named = urlOption ?? (process.env['PENSTOCK_URL'] || undefined)
  const text = named ?? local.url
  if (text === undefined) {
    throw new Failure(
      EXIT.invalid,
      'which router? give --url or set PENSTOCK_URL (no local run in this folder)',
    )
  }
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) {
    throw new Failure(EXIT.invalid, 'the URL must be whole, e.g. https://llm.example.com')
  }
  const url = new URL(text)
  if (url.protocol === 'http:' && !isPrivateHost(url.hostname)) {
    throw new Failure(
      EXIT.invalid,
      `${secret} must not travel unencrypted: use https://${url.host}`,
    )
  }
  const isLocal = sameUrl(text, local.url)
  return { url, local: isLocal ? local : {}, isNamed: named !== undefined }
}

/**
 * The admin token for a router, where there is one: each goes only to the place it belongs to.
 * @throws Failure
 */
export function tokenFor({ local, isNamed }: Place): string | undefined {
  const own = ownToken(process.env)
  return isNamed ? (own ?? local.adminToken) : (local.adminToken ?? own)
}

export interface Call {
  readonly method?: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE'
  /** Query parameters; those that are undefined or null are left out. */
  readonly query?: Readonly<Record<string, string | number | null | undefined>>
  /** A string goes out as it is (YAML), an object as JSON. */
  readonly body?: string | object
  readonly ifMatch?: number
}

interface ErrorBody {
  readonly error?: { readonly message?: string; readonly code?: string }
  readonly problems?: readonly Problem[]
}

function failureOf(status: number, { error, problems }: ErrorBody): Failure {
  const details = {
    ...(error?.code ? { code: error.code } : {}),
    ...(problems ? { problems } : {}),
  }
  const message = error?.message ?? `the router answered ${status}`
  if (status === 409 || status === 412) return new Failure(EXIT.conflict, message, details)
  return new Failure(status >= 500 ? EXIT.unreachable : EXIT.invalid, message, details)
}

const reasonOf = (cause: unknown): string => {
  const { name, message, cause: inner } = cause as Error
  if (name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1000} s`
  const { code, message: innerMessage } = (inner ?? {}) as { code?: string; message?: string }
  if (code === 'ECONNREFUSED') return 'connection refused'
  return code === 'ENOTFOUND' ? 'the name does not resolve' : innerMessage || code || message
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * Calls one admin route.
 *
 * @param urlOption the command's `--url`
 * @param path      parts of the path below `/admin`; each is escaped
 * @returns         the answer's JSON, not checked further
 * @throws Failure  with the exit code that fits
 */
export async function callAdmin<T>(
  urlOption: string | undefined,
  path: readonly string[],
  call: Call = {},
): Promise<T> {
  const place = placeOf(urlOption, 'the admin token')
  const { url } = place
  const token = tokenFor(place)
  if (!token)
    throw new Failure(EXIT.invalid, 'set PENSTOCK_ADMIN_TOKEN to the admin token of this router')
  const { method = 'GET', query = {}, body, ifMatch } = call
  const headers = new Headers({ authorization: `Bearer ${token}`, accept: 'application/json' })
  if (body !== undefined) {
    headers.set('content-type', typeof body === 'string' ? 'application/yaml' : 'application/json')
  }
  if (ifMatch !== undefined) headers.set('if-match', String(ifMatch))
  const target = new URL(
    `${url.href.replace(/\/+$/, '')}/admin/${path.map(encodeURIComponent).join('/')}`,
  )
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) target.searchParams.set(name, String(value))
  }
  let status: number
  let text: string
  let isOurs: boolean
  try {
    const response = await fetch(target, {
      method,
      headers,
      redirect: 'manual', // a login page on the way is not the router
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined
        ? {}
        : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    status = response.status
    isOurs = REQUEST_ID.test(response.headers.get('x-request-id') ?? '')
    text = await response.text()
  } catch (cause) {
    throw new Failure(EXIT.unreachable, `cannot reach ${url.origin}: ${reasonOf(cause)}`)
  }
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    answer = null
  }
  if (!isRecord(answer) || (!isOurs && status < 500)) {
    throw new Failure(
      EXIT.unreachable,
      `${url.origin} answered ${status}, not as the router would: something on the way, or another service`,
    )
  }
  if (status < 200 || status > 299) throw failureOf(status, answer)
  return answer as T
}
