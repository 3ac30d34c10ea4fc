import { EXIT, Failure } from './failure.ts'

/**
 * The token in PENSTOCK_ADMIN_TOKEN; undefined where there is none.
 * @throws Failure where it is none that a header could carry: pasted with a line break, say
 */
export function ownToken(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const token = env['PENSTOCK_ADMIN_TOKEN'] || undefined
  if (token === undefined || /^[\x21-\x7e]+$/.test(token)) return token
  throw new Failure(
    EXIT.invalid,
    'PENSTOCK_ADMIN_TOKEN is no token: it has a space, a line break or a letter that is not ASCII',
  )
}
