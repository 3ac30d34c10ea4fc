/** An OpenID Connect issuer, as far as a router sees it: a JWK Set over HTTP, and tokens signed by it. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

const ALG = 'ES256'
const KID = 'one'

export interface Claims {
  readonly iss?: string
  readonly aud?: string
  /** Unix seconds; default in ten minutes. */
  readonly exp?: number
  readonly tenant?: unknown
}

export interface IdentityProvider {
  readonly issuer: string
  readonly audience: string
  readonly jwksUrl: string
  sign(claims?: Claims): Promise<string>
  /** Signed by a key that it does not publish. */
  forge(claims?: Claims): Promise<string>
  /** From now on it does not answer, or answers again. */
  setDown(down: boolean): void
  /** How often its keys were fetched. */
  fetched(): number
  stop(): Promise<void>
}

export async function startIdentityProvider(tenant: string): Promise<IdentityProvider> {
  const [keys, others] = [await generateKeyPair(ALG), await generateKeyPair(ALG)]
  const jwk = { ...(await exportJWK(keys.publicKey)), kid: KID, alg: ALG, use: 'sig' }
  let down = false
  let fetched = 0
  const server = createServer((_request, response) => {
    fetched++
    if (down) return void response.writeHead(500).end('down')
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ keys: [jwk] }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const issuer = 'https://id.example.com'
  const audience = 'penstock'
  const signed = (by: typeof keys, claims: Claims = {}): Promise<string> => {
    const exp = Math.floor(Date.now() / 1000) + 600
    const payload = { iss: issuer, aud: audience, exp, tenant, ...claims }
    return new SignJWT(payload).setProtectedHeader({ alg: ALG, kid: KID }).sign(by.privateKey)
  }
  return {
    issuer,
    audience,
    jwksUrl: `http://127.0.0.1:${port}/jwks.json`,
    sign: (claims) => signed(keys, claims),
    forge: (claims) => signed(others, claims),
    setDown: (now) => void (down = now),
    fetched: () => fetched,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
