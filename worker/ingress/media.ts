import { isObject, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

/** Where the APIs put the address of something that vLLM would fetch: as text, or as `{ url }`. */
const MEDIA: ReadonlySet<string> = new Set(['image_url', 'audio_url', 'video_url', 'file_url'])

/** Descriptions, schemas and arguments: may look like a media part, and are never fetched. */
const NOT_CONTENT: ReadonlySet<string> = new Set([
  'tools',
  'tool_choice',
  'tool_calls',
  'functions',
  'response_format',
  'format', // of Responses' `text`, of Anthropic's `output_config`
  'output_format',
  'structured_outputs',
  'guided_json',
  'metadata',
])

/** Parts that are serialised tensors: a way into the model past its own encoders. */
const TENSORS: ReadonlySet<unknown> = new Set(['prompt_embeds', 'image_embeds', 'audio_embeds'])

/**
 * Refuses addresses that an instance must not fetch, since it stands inside the operator's network:
 * media come as data URLs, or from hosts that the fleet allows. Looked for wherever a body may have
 * content, whether the API is known to read it or not.
 *
 * Each value is looked at once, and of a data URL only the first characters.
 *
 * @param domains as in `PoolRoute.mediaDomains`
 * @returns whether a part of content has a `uuid` (see {@link withoutUuids})
 * @throws Refusal `unsupported_value`
 */
export function refuseForeignMedia(body: Json, domains: readonly string[]): boolean {
  let hasUuid = false
  // A list that grows while it is read: a deeply nested body would use up the call stack.
  const places: Place[] = [{ value: body, path: null, media: null }]
  for (const place of places) {
    const look = (value: unknown, key: string | number): void => {
      if (!mayBeContent(place.path && place.value, key)) return
      hasUuid ||= key === 'uuid' && 'type' in place.value
      if (key === 'type' && TENSORS.has(value))
        throw noTensors(written({ key, parent: place.path }))
      const isText = typeof value === 'string'
      if (!isText && (typeof value !== 'object' || value === null)) return

      const isAddress = isMedia(key, value) || (place.media !== null && isWithin(key))
      if (isText && !isAddress) return
      const path = { key, parent: place.path }
      const media = isAddress ? (place.media ?? path) : null
      if (!isText) places.push({ value, path, media })
      else if (!isAllowed(value, domains)) throw foreign(written(media ?? path), domains)
    }
    if (Array.isArray(place.value)) place.value.forEach(look)
    else for (const [key, value] of Object.entries(place.value)) look(value, key)
  }
  return hasUuid
}

/**
 * Whether an instance may be asked to fetch this: a data URL, or http(s) at an allowed host.
 *
 * vLLM's parser is not ours, so only addresses that all parsers read alike pass: a plain host and
 * perhaps a port, then the path. No user, backslash, space, escaped or numeric host, final dot.
 */
export function isAllowed(url: string, domains: readonly string[]): boolean {
  if (url.slice(0, DATA.length).toLowerCase() === DATA) return true
  if (url.length > LONGEST_URL || ODD.test(url)) return false
  const plain = PLAIN.exec(url)?.[1]?.toLowerCase()
  if (plain === undefined || !URL.canParse(url)) return false
  const { hostname, host } = new URL(url)
  // `host` has the port, unless it is the scheme's own.
  return plain === hostname && domains.some((domain) => covers(domain.toLowerCase(), host))
}

const DATA = 'data:'

/** Of a path that is told: its last steps, and characters of each. No API has longer ones. */
const LONGEST_PATH = 16
const LONGEST_KEY = 64

/** Characters; signed addresses of object stores have some 2,000. */
const LONGEST_URL = 8_192

// Not both in one: with the flags i and u, [a-z] would have two letters beyond ASCII.
const PLAIN = /^https?:\/\/((?:[a-z0-9_-]+\.)*[a-z0-9_-]+)(?::\d+)?(?=[/?#]|$)/i
const ODD = /[\\\s\p{Cc}]/u

/** Found on the way through a body. */
interface Place {
  readonly value: object
  /** Null for the body itself. */
  readonly path: Path | null
  /** The field whose address this is a part of. */
  readonly media: Path | null
}

interface Path {
  readonly key: string | number
  readonly parent: Path | null
}

const covers = (domain: string, host: string): boolean =>
  domain.startsWith('*.') ? host.endsWith(domain.slice(1)) : host === domain

/** Anthropic's `source` is an address only as an object: as text it says where a quotation is from. */
const isMedia = (key: string | number, value: unknown): boolean =>
  typeof key === 'string' && (MEDIA.has(key) || (key === 'source' && isObject(value)))

const isWithin = (key: string | number): boolean => typeof key === 'number' || key === 'url'

/** @param within what has this key; null for the body itself */
function mayBeContent(within: object | null, key: string | number): boolean {
  if (typeof key === 'number') return true
  if (NOT_CONTENT.has(key)) return false
  // A tool's arguments; the body's own `input` is the prompt, whatever `type` stands beside it.
  return key !== 'input' || within === null || !('type' in within) || within.type !== 'tool_use'
}

/** @example messages[0].content[1].image_url */
function written(path: Path): string {
  const keys: string[] = []
  for (let at: Path | null = path; at !== null && keys.length < LONGEST_PATH; at = at.parent) {
    keys.unshift(typeof at.key === 'number' ? `[${at.key}]` : `.${at.key.slice(0, LONGEST_KEY)}`)
  }
  return keys.join('').replace(/^\./, '')
}

/**
 * Without the `uuid` of any part of content, which vLLM takes for the key of its media cache as it is:
 * one tenant could look at what another has sent, or put something in its place.
 */
export function withoutUuids(body: Json): Json {
  const clean = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(clean)
    if (!isObject(value)) return value
    const isPart = typeof value['type'] === 'string'
    const kept = Object.entries(value).filter(([key]) => !isPart || key !== 'uuid')
    return Object.fromEntries(
      kept.map(([key, item]) => [key, mayBeContent(value, key) ? clean(item) : item]),
    )
  }
  const entries = Object.entries(body)
  return Object.fromEntries(
    entries.map(([key, value]) => [key, mayBeContent(null, key) ? clean(value) : value]),
  )
}

const noTensors = (param: string): Refusal =>
  new Refusal('unsupported_value', 'Embeddings can not be given in place of content here.', {
    param,
  })

function foreign(param: string, domains: readonly string[]): Refusal {
  const allowed =
    domains.length === 0
      ? 'This model fetches no media from other hosts.'
      : `This model fetches media only from ${domains.join(', ')}, by a plain http or https URL.`
  return new Refusal(
    'unsupported_value',
    `The URL in "${param}" can't be used. ${allowed} A data URL (data:image/png;base64,…) works.`,
    { param },
  )
}
