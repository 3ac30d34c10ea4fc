import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import type { Settlement } from '../../durable-objects/pool/contract.ts'

/** What an answer's head says of the way to its site. */
export type Way = Pick<Settlement, 'way' | 'detail'>

const UNKNOWN: Way = {}

/**
 * Whether an answer came from the site or was made on the way there. Our Nginx marks all that it passes
 * on and all that it says itself; an error without the mark is the tunnel's (530, 502, 504), or Access's
 * (302, 403), and no fault of the instance (L14). A 503 without it may be anybody's.
 */
export function wayOf({ status, headers }: Response, { site }: Target): Way {
  if (site === null) return UNKNOWN
  if (headers.has('x-penstock-origin') || headers.get('server') === 'uvicorn')
    return { way: 'open' }
  if (status < 300 || status === 503) return UNKNOWN
  return { way: 'fault', detail: `a request was answered ${status}, not from our Nginx` }
}
