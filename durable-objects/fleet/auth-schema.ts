/** Who else than the holder of a key is let in: `auth` of `fleet.yaml`. */
import { z } from 'zod'
import { parseIssuer, parseJwksUrl } from './address.ts'
import { durationOrNone, readAs } from './fields.ts'
import type { JwtIssuer } from './snapshot.ts'

const LARGEST_SKEW_MS = 300_000

const Jwt = z.strictObject({
  issuer: readAs(parseIssuer, 'is missing: write what its tokens say in iss').describe(
    'Whose tokens are taken: an https URL, letter for letter as their `iss`.',
  ),
  audience: z
    .string()
    .min(1, 'write what its tokens say in aud')
    .describe('For whom they must be: their `aud`, or one of it.'),
  jwks_url: readAs(
    parseJwksUrl,
    'is missing: write jwks_uri of <issuer>/.well-known/openid-configuration',
  ).describe(
    "Where the issuer's public keys are (JWK Set): https; http on loopback and private addresses only.",
  ),
  tenant_claim: z
    .string()
    .min(1, 'name a claim, e.g. tenant')
    .default('tenant')
    .describe('The claim, at the top of the token, that names the tenant.'),
  clock_skew: durationOrNone(LARGEST_SKEW_MS)
    .prefault('30s')
    .describe('By how much clocks may differ when expiry is judged; at most 5m.'),
})

export const authShape = {
  auth: z
    .strictObject({
      jwt: Jwt.optional().describe(
        'Tokens (JWT) of an OpenID Connect issuer that are taken in place of keys. Default none.',
      ),
    })
    .default({})
    .describe('Who is let in besides the holders of keys.'),
}

type AuthSpec = z.output<typeof authShape.auth>

/** The issuer as the Worker checks by it; null where the file names none. */
export function jwtIssuer({ jwt }: AuthSpec): JwtIssuer | null {
  if (jwt === undefined) return null
  const { issuer, audience, jwks_url: jwksUrl, tenant_claim: tenantClaim, clock_skew } = jwt
  return { issuer, audience, jwksUrl, tenantClaim, clockSkewS: clock_skew / 1000 }
}
