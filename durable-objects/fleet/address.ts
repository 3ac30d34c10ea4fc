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
export function parseHost(text: string): Parsed<string> {
  if (octets(text) !== null) return { ok: true, value: text }
  const six = ipv6(text)
  if (six !== null) return { ok: true, value: six }
  if (text === 'localhost') return { ok: false, message: 'write 127.0.0.1 instead of localhost' }
  return { ok: false, message: 'write an IP address, e.g. 10.0.0.12 or fd00::12' }
}

const parseUrl = (text: string, example: string): Parsed<URL> => {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) {
    return { ok: false, message: `write a whole URL, e.g. ${example}` }
  }
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') {
    return { ok: false, message: 'a URL must not carry a user name or password' }
  }
  if (url.search !== '' || url.hash !== '' || /[?#]/.test(text)) {
    return { ok: false, message: 'leave out the query and the fragment' }
  }
  return { ok: true, value: url }
}

/**
 * Reads a site's origin: scheme, host and port, nothing else.
 *
 * @returns the origin without a trailing slash
 */
export function parseOrigin(text: string): Parsed<string> {
  const parsed = parseUrl(text, 'https://gpu-a.example.com')
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
 * Reads the URL of an instance that is called directly, without a site.
 *
 * @returns the URL without a trailing slash
 */
export function parseInstanceUrl(text: string): Parsed<string> {
  const parsed = parseUrl(text, 'http://127.0.0.1:8001')
  if (!parsed.ok) return parsed
  const url = parsed.value
  if (url.protocol === 'https:') {
    const message =
      'an https url (a hosted service as the last resort) is not supported in this version; use a site, or http on a loopback or private address'
    return { ok: false, message }
  }
  if (!isPrivateHost(url.hostname)) {
    const message =
      'plain http is allowed on loopback and private addresses only; put the machine behind a site'
    return { ok: false, message }
  }
  return { ok: true, value: url.href.replace(/\/+$/, '') }
}

/** Reads what a browser sends as `Origin`, or `*` for any. */
export function parseCorsOrigin(text: string): Parsed<string> {
  if (text === '*') return { ok: true, value: text }
  const parsed = parseUrl(text, 'https://app.example.com')
  if (!parsed.ok) return parsed
  if (parsed.value.pathname !== '/') {
    return { ok: false, message: `leave out the path: write ${parsed.value.origin}` }
  }
  return { ok: true, value: parsed.value.origin }
}
