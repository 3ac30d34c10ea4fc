/** Who may come in: keys that are revoked, expired, bound; suspended tenants; tokens of an identity provider. */
import { UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { keyOf, partsOf } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startIdentityProvider, type IdentityProvider } from '../support/identity-provider.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { keyIdOf, tenantsOf, type Tenants } from '../support/tenants.ts'
import { dial } from './websocket-client.ts'

/** A running request hears of it within this time, in milliseconds. */
const AT_ONCE_MS = 2_500
const SERVICES = 2

/** Never written anywhere but to the instance. */
const PROMPT = 'xylophone zeppelin'

let stack: Stack
let tenants: Tenants
let provider: IdentityProvider
/** Every key that was shown, and every token. */
const secrets: string[] = []
/** Everything that was answered with an error. */
const errors: string[] = []

beforeAll(async () => {
  provider = await startIdentityProvider('federated')
  const { issuer, audience, jwksUrl } = provider
  stack = await startStack({
    services: SERVICES,
    sims: [
      { id: 'a', pool: 'pool', slots: 64, options: { profile: { ttftBaseMs: 2, itlBaseMs: 2 } } },
      { id: 'b', pool: 'slow', slots: 64, options: { profile: { itlBaseMs: 30 } } },
      { id: 'c', pool: 'mute', slots: 64 },
    ],
    fleet: {
      auth: { jwt: { issuer, audience, jwks_url: jwksUrl } },
      plans: { narrow: { models: ['pool', 'mu*'] } },
    },
    pools: { pool: { limits: { n: 2 } } },
  })
  await stack.sims['c']!.setFault({ kind: 'late-start', ms: 20_000 })
  tenants = tenantsOf(stack)
})
afterAll(async () => {
  await stack?.stop()
  await provider?.stop()
})

const chat = async (
  key: string | null,
  { model = 'pool', url = stack.url, more = {}, headers = {} } = {},
): Promise<Received> => {
  if (key !== null) secrets.push(key)
  const answer = await ask(url + CHAT.path, {
    headers: { ...(key !== null && keyOf({ apiKey: key })), ...headers },
    body: CHAT.body(model, PROMPT, { max_tokens: 2, ...more }),
  })
  if (answer.status !== 200) errors.push(answer.text, JSON.stringify(answer.headers))
  return answer
}

const said = ({ status, text }: Received): string =>
  `${status} ${(JSON.parse(text) as { error?: { code: string } }).error?.code ?? ''}`.trim()

describe.concurrent('a key', () => {
  it('opens nothing from the moment it is revoked, in no service', async () => {
    const key = await tenants.create('revoked')
    for (const url of stack.services) expect(said(await chat(key, { url }))).toBe('200')
    await tenants.revokeKey('revoked', key)
    for (const url of stack.services)
      expect(said(await chat(key, { url }))).toBe('401 invalid_api_key')
    const models = await ask(`${stack.url}/v1/models`, { headers: keyOf({ apiKey: key }) })
    expect(models.status).toBe(401)
  })

  it('that is revoked lets what runs by it come to its end', async () => {
    const key = await tenants.create('finishes')
    const stream = await running(key, 60)
    await sleep(1_200)
    await tenants.revokeKey('finishes', key)
    const { text } = await stream.ended
    expect(text).toContain('data: [DONE]')
  })

  it('that is revoked at once ends what runs by it, and only that', async () => {
    const key = await tenants.create('ended')
    const other = await tenants.createKey('ended')
    const [stream, untouched] = await Promise.all([running(key, 400), running(other, 120)])
    const silent = chat(key, { model: 'mute', more: { stream: true } })
    await sleep(1_500)
    const from = performance.now()
    await tenants.revokeKey('ended', key, { now: true })
    const { text, complete } = await stream.ended
    expect(said(await silent)).toBe('401 invalid_api_key')
    expect(performance.now() - from).toBeLessThan(AT_ONCE_MS)
    expect(complete).toBe(true)
    expect(partsOf(text).at(-1)?.error).toMatchObject({ code: 'invalid_api_key' })
    expect(text).not.toContain('[DONE]')
    expect((await untouched.ended).text).toContain('[DONE]')
    await tenants.idle('ended')
    // What he got he pays for; nobody is to blame.
    const rows = (await tenants.usage('ended')).filter(({ key: id }) => id === keyIdOf(key))
    const slow = rows.find(({ model }) => model === 'slow')
    expect(slow).toMatchObject({ requests: 1, errors: 0 })
    expect(slow?.completionTokens).toBeGreaterThan(10)
    // Nor does the instance go on for nobody.
    const id = stream.headers['x-request-id']
    await eventually(
      () => stack.sims['b']!.requests().find((record) => record.id === id)?.outcome,
      (outcome) => outcome === 'aborted',
    )
  })

  it('that is revoked at once ends its sockets as well', async () => {
    const key = await tenants.create('sockets')
    const path = `${stack.url.replace('http', 'ws')}/v1/realtime?model=pool`
    const client = await dial(path, { headers: keyOf({ apiKey: key }) })
    await eventually(
      () => tenants.show('sockets'),
      ({ running }) => running === 1,
    )
    await sleep(1_200)
    await tenants.revokeKey('sockets', key, { now: true })
    expect(await client.closed).toMatchObject({ code: 1008 })
    await tenants.idle('sockets')
  })

  it('is valid until it expires', async () => {
    await tenants.create('expires')
    const key = await tenants.createKey('expires', { expires: Date.now() + 1_500 })
    expect(said(await chat(key))).toBe('200')
    await sleep(1_600)
    expect(said(await chat(key))).toBe('401 invalid_api_key')
  })

  it('that is rotated has a successor with its settings, and goes on for a while', async () => {
    await tenants.create('rotates')
    const old = await tenants.createKey('rotates', { models: ['slow'] })
    const fresh = await tenants.rotateKey('rotates', old, '1s')
    for (const key of [old, fresh]) {
      expect(said(await chat(key, { model: 'slow' }))).toBe('200')
      expect(said(await chat(key))).toBe('403 model_not_allowed')
    }
    await sleep(1_100)
    expect(said(await chat(old, { model: 'slow' }))).toBe('401 invalid_api_key')
    expect(said(await chat(fresh, { model: 'slow' }))).toBe('200')
  })

  it('has models of its own, and lists those alone', async () => {
    await tenants.create('models')
    const key = await tenants.createKey('models', { models: ['sl*'] })
    expect(said(await chat(key))).toBe('403 model_not_allowed')
    expect(await listed(key)).toEqual(['slow'])
  })

  it('may be used from its addresses alone', async () => {
    await tenants.create('addresses')
    const key = await tenants.createKey('addresses', {
      addresses: ['10.0.0.0/8', '2001:db8::/32'],
    })
    const here = await tenants.createKey('addresses', { addresses: ['127.0.0.1'] })
    // The front says from where a client comes, whatever that says itself.
    const claimed = { headers: { 'cf-connecting-ip': '10.1.2.3' } }
    expect(said(await chat(key, claimed))).toBe('403 address_not_allowed')
    expect(said(await chat(here))).toBe('200')
    // Past the front, as Cloudflare would say it.
    const at = (address: string) =>
      chat(key, {
        url: `http://127.0.0.1:${stack.workerPort}`,
        headers: { 'cf-connecting-ip': address },
      })
    expect(said(await at('10.1.2.3'))).toBe('200')
    expect(said(await at('2001:db8::7'))).toBe('200')
    expect(said(await at('11.1.2.3'))).toBe('403 address_not_allowed')
  })
})

describe('a tenant', () => {
  it('that is suspended is refused, and comes back', async () => {
    const key = await tenants.create('suspended')
    expect(said(await chat(key))).toBe('200')
    await tenants.set('suspended', { suspended: true })
    expect(said(await chat(key))).toBe('403 tenant_suspended')
    await tenants.set('suspended', { suspended: false })
    expect(said(await chat(key))).toBe('200')
  })

  it('that is suspended at once gets to the end of nothing', async () => {
    const key = await tenants.create('stopped')
    const stream = await running(key, 400)
    await sleep(1_200)
    const from = performance.now()
    await tenants.set('stopped', { suspended: true, now: true })
    const { text } = await stream.ended
    expect(performance.now() - from).toBeLessThan(AT_ONCE_MS)
    expect(partsOf(text).at(-1)?.error?.code).toEqual(expect.any(String))
    await tenants.idle('stopped')
  })

  it('may use the models of its plan, and sees no others', async () => {
    const key = await tenants.create('narrow', { plan: 'narrow' })
    expect(said(await chat(key, { model: 'slow' }))).toBe('403 model_not_allowed')
    expect(said(await chat(key, { model: 'slow-alias' }))).toBe('403 model_not_allowed')
    expect(said(await chat(key, { model: 'pool-alias' }))).toBe('200')
    expect(await listed(key)).toEqual(['pool', 'mute'])
    const one = await ask(`${stack.url}/v1/models/slow`, { headers: keyOf({ apiKey: key }) })
    expect(said(one)).toBe('404 model_not_found')
  })

  it('is told one thing at a time, in this order', async () => {
    const key = await tenants.create('order', { plan: 'narrow' })
    const wrong = { n: 7 }
    const nowhere = { model: 'nowhere', more: wrong }
    const forbidden = { model: 'slow', more: wrong }
    expect(said(await chat(null, nowhere))).toBe('401 invalid_api_key')
    expect(said(await chat(key, nowhere))).toBe('404 model_not_found')
    expect(said(await chat(key, forbidden))).toBe('403 model_not_allowed')
    expect(said(await chat(key, { more: wrong }))).toMatch(/^400 /)
    await tenants.set('order', { suspended: true })
    expect(said(await chat(key, nowhere))).toBe('403 tenant_suspended')
    expect(said(await chat(key, { more: wrong }))).toBe('403 tenant_suspended')
    await tenants.revokeKey('order', key)
    expect(said(await chat(key, nowhere))).toBe('401 invalid_api_key')
  })
})

describe('a token of the identity provider', () => {
  it('is out of reach, not invalid, while the keys it is checked by are', async () => {
    await tenants.create('federated')
    provider.setDown(true)
    const { status, text, headers } = await chat(await provider.sign())
    provider.setDown(false)
    expect([status, JSON.parse(text)]).toMatchObject([
      503,
      { error: { code: 'router_unavailable' } },
    ])
    expect(headers['retry-after']).toBe('5')
    await sleep(1_100) // for so long the provider is left alone
  })

  it('opens what a key opens, and its keys are fetched once', async () => {
    const before = provider.fetched()
    const token = await provider.sign()
    for (let i = 0; i < 3; i++) expect(said(await chat(token))).toBe('200')
    expect(said(await chat(await provider.sign({ exp: soon(60) })))).toBe('200')
    expect(provider.fetched() - before).toBe(1)
    await tenants.idle('federated')
    expect((await tenants.usage('federated')).map(({ key, requests }) => [key, requests])).toEqual([
      ['jwt', 4],
    ])
  })

  it.each<[string, () => Promise<string>]>([
    ['of another issuer', () => provider.sign({ iss: 'https://elsewhere.example.com' })],
    ['for another audience', () => provider.sign({ aud: 'somebody-else' })],
    ['that has expired', () => provider.sign({ exp: soon(-120) })],
    ['signed by another key', () => provider.forge()],
    ['of a tenant that there is not', () => provider.sign({ tenant: 'nobody' })],
    ['without a tenant', () => provider.sign({ tenant: 7 })],
    ['that nobody signed', async () => unsecured()],
  ])('%s opens nothing', async (_, token) => {
    expect(said(await chat(await token()))).toBe('401 invalid_api_key')
  })
})

it('no key, token, prompt or address of an instance is in a log line, an error or a metric', async () => {
  await stack.sims['a']!.setFault({ kind: 'cut', afterChunks: 0 })
  const key = await tenants.create('leaks')
  expect(said(await chat(key))).toBe('502 upstream_failed')
  expect(said(await chat(`${key}x`))).toBe('401 invalid_api_key')
  await stack.sims['a']!.setFault(null)
  const operator = { authorization: `Bearer ${stack.adminToken}` }
  const metrics = await ask(`${stack.url}/metrics`, { headers: operator })
  expect(metrics.status).toBe(200)
  const written = {
    logs: stack.logs().join('\n'),
    errors: errors.join('\n'),
    metrics: metrics.text,
  }
  // Of a key, its secret part and its signature by themselves as well.
  const parts = secrets.flatMap((secret) => [secret, ...secret.split(/[_.]/).slice(-2)])
  const hidden = [...parts, ...PROMPT.split(' '), stack.adminToken, 'a-signing-secret']
  for (const [where, text] of Object.entries(written)) {
    const found = hidden.filter((secret) => secret.length > 4 && text.includes(secret))
    expect({ where, found }).toEqual({ where, found: [] })
  }
  expect(written.logs).not.toMatch(/bearer|authorization|psk_/i)
  for (const { port } of Object.values(stack.sims)) {
    expect(written.errors).not.toContain(String(port))
    expect(metrics.text).not.toContain(`:${port}`)
  }
})

/** A stream that has begun. */
async function running(key: string, tokens: number) {
  secrets.push(key)
  const body = CHAT.body('slow', PROMPT, { stream: true, max_tokens: tokens })
  const opened = await open(stack.url + CHAT.path, { headers: keyOf({ apiKey: key }), body })
  await opened.until(/data: /)
  return opened
}

async function listed(key: string): Promise<string[]> {
  const { text } = await ask(`${stack.url}/v1/models`, { headers: keyOf({ apiKey: key }) })
  return (JSON.parse(text) as { data: { id: string }[] }).data.map(({ id }) => id)
}

/** Unix seconds. */
const soon = (s: number): number => Math.floor(Date.now() / 1000) + s

const unsecured = (): string =>
  new UnsecuredJWT({ tenant: 'federated' })
    .setIssuer(provider.issuer)
    .setAudience(provider.audience)
    .setExpirationTime('10m')
    .encode()
