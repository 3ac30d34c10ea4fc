import type { Parsed } from './units.ts'

const octets = (host: string): readonly number[] | null => {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(host)) return null
  const parts = host.split('.').map(Number)
  return parts.every((part) => part <= 255) ? parts : null
}

/** `fd00::12` from `[FD00:0::12]`; null when it is no IPv6 address. */
const ipv6 = (text: string): string | null => {
  const bare = text.replace(/^\[(.*)\]$/, '$1')
  if (!/^[0-9a-f:.]+$/i.test(bare) || !bare.includes(':')) return null
  return URL.canParse(`http://[${bare}]`) ? new URL(`http://[${bare}]`).hostname.slice(1, -1) : null
}

/**
 * Whether an address is one that only the machine itself or its own network reaches:
 * loopback, RFC 1918, or an IPv6 unique local address. Plain HTTP is allowed there alone.
 *
 * @param host as `URL.hostname` has it: `127.0.0.1`, `[fd00::1]`, `localhost`
 */
export function isPrivateHost(host: string): boolean {
  if (host === 'localhost') return true
  const [a = -1, b = -1] = octets(host) ?? []
  if (a === 127 || a === 10 || (a === 192 && b === 168) || (a === 172 && b >= 16 && b <= 31)) {
    return true
  }
  const six = ipv6(host)
  return six !== null && (six === '::1' || six.startsWith('fd'))
}

/**
 * Reads a literal IP address. Names are refused because Nginx resolves them once, at its start,
 * and does not start at all while the name server is away.
 *
 * @returns the address in its canonical form, IPv6 without brackets
 */
export function parseHost(value: unknown): Parsed<string> {
  const text = String(value)
  if (octets(text) !== null) return { ok: true, value: text }
  const six = ipv6(text)
  if (six !== null) return { ok: true, value: six }
  if (text === 'localhost') return { ok: false, message: 'write 127.0.0.1 instead of localhost' }
  return { ok: false, message: 'write an IP address, e.g. 10.0.0.12 or fd00::12' }
}

const parseUrl = (value: unknown, example: string, mayHaveQuery = false): Parsed<URL> => {
  const text = String(value)
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) {
    return { ok: false, message: `write a whole URL, e.g. ${example}` }
  }
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') {
    return { ok: false, message: 'a URL must not carry a user name or password' }
  }
  if (mayHaveQuery ? text.includes('#') : /[?#]/.test(text)) {
    if (mayHaveQuery) return { ok: false, message: 'leave out the fragment' }
    return { ok: false, message: 'leave out the query and the fragment' }
  }
  return { ok: true, value: url }
}

/**
 * Reads a site's origin: scheme, host and port, nothing else.
 *
 * @returns the origin without a trailing slash
 */
export function parseOrigin(value: unknown): Parsed<string> {
  const parsed = parseUrl(value, 'https://gpu-a.example.com')
  if (!parsed.ok) return parsed
  const url = parsed.value
  if (url.pathname !== '/') {
    return { ok: false, message: `leave out the path: write ${url.origin}` }
  }
  if (url.protocol === 'http:' && !isPrivateHost(url.hostname)) {
    const message = `plain http is allowed on loopback and private addresses only: write https://${url.host}`
    return { ok: false, message }
  }
  return { ok: true, value: url.origin }
}

/**
 * Reads the URL of an instance that is called directly, without a site. Whether it may be `https:`
 * depends on other fields, and is a rule between them.
 *
 * @returns the URL without a trailing slash
 */
export function parseInstanceUrl(value: unknown): Parsed<string> {
  const parsed = parseUrl(value, 'http://127.0.0.1:8001')
  if (!parsed.ok) return parsed
  const url = parsed.value
  if (url.protocol === 'http:' && !isPrivateHost(url.hostname)) {
    const message =
      'plain http is allowed on loopback and private addresses only; put the machine behind a site'
    return { ok: false, message }
  }
  return { ok: true, value: url.href.replace(/\/+$/, '') }
}

/**
 * Reads the issuer of tokens (OpenID Connect Discovery 1.0 §2: https, no query, no fragment).
 *
 * @returns the text as it stands: tokens are compared with it letter for letter
 */
export function parseIssuer(value: unknown): Parsed<string> {
  const parsed = parseUrl(value, 'https://login.example.com')
  if (!parsed.ok) return parsed
  if (parsed.value.protocol !== 'https:') {
    return { ok: false, message: `an issuer is an https URL: write https://${parsed.value.host}` }
  }
  return { ok: true, value: String(value) }
}

/** Reads where an issuer's public keys are. Some issuers want a query there. */
export function parseJwksUrl(value: unknown): Parsed<string> {
  const parsed = parseUrl(value, 'https://login.example.com/.well-known/jwks.json', true)
  if (!parsed.ok) return parsed
  const url = parsed.value
  if (url.protocol === 'http:' && !isPrivateHost(url.hostname)) {
    const message =
      'plain http is allowed on loopback and private addresses only: who changes these keys on their way lets anybody in'
    return { ok: false, message }
  }
  return { ok: true, value: url.href }
}

const HOST_NAME = /^(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*$/
/** A host's name: the pattern that editors check. */
export const HOST_PATTERN = HOST_NAME.source

/**
 * Reads a host that media may be fetched from: `media.example.com`, or `*.example.com` for every
 * host below `example.com`.
 *
 * @returns the name as `URL.hostname` has it: in lowercase, other letters than ASCII as punycode
 */
export function parseMediaDomain(value: unknown): Parsed<string> {
  const text = String(value)
  const [, stars = '', name = ''] = /^(\*\.)?(.*)$/s.exec(text) ?? []
  const asUrl = /:\/\//.test(text) ? text : `https://${name}`
  const host = URL.canParse(asUrl) ? new URL(asUrl).hostname : ''
  if (!HOST_NAME.test(host)) {
    const message =
      'write a host name, e.g. media.example.com, or *.example.com for every host below it'
    return { ok: false, message }
  }
  if (/[/:?#@\\]/.test(name)) return { ok: false, message: `write only the host: ${stars}${host}` }
  return { ok: true, value: stars + host }
}

/**
 * Reads a host under which tenants reach one model: `qwen.api.example.com`.
 *
 * @returns the name as `URL.hostname` has it, which is how it has to be written
 */
export function parseModelHost(value: unknown): Parsed<string> {
  const text = typeof value === 'string' ? value : ''
  const asUrl = /:\/\//.test(text) ? text : `https://${text}`
  const host = URL.canParse(asUrl) ? new URL(asUrl).hostname : ''
  if (!HOST_NAME.test(host) || host.length > 253) {
    const message = text.includes('*')
      ? 'write each host out: under a wildcard, a host that somebody mistypes would mean this model'
      : 'write a host name, e.g. qwen.api.example.com'
    return { ok: false, message }
  }
  if (host !== text) {
    return { ok: false, message: `write only the host, in lower case: ${host}` }
  }
  return { ok: true, value: host }
}

/** Reads what a browser sends as `Origin`, or `*` for any. */
export function parseCorsOrigin(value: unknown): Parsed<string> {
  if (value === '*') return { ok: true, value }
  const parsed = parseUrl(value, 'https://app.example.com')
  if (!parsed.ok) return parsed
  if (parsed.value.pathname !== '/') {
    return { ok: false, message: `leave out the path: write ${parsed.value.origin}` }
  }
  return { ok: true, value: parsed.value.origin }
}
