import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { isFromSite, isOfTheWay } from '../../durable-objects/health/origin.ts'
import type { Settlement } from '../../durable-objects/pool/contract.ts'

/** What an answer's head says of the way to its site. */
export type Way = Pick<Settlement, 'way' | 'detail'>

const UNKNOWN: Way = {}

/** Whether an answer came from the site or was made on the way there. */
export function wayOf(answer: Response, { site }: Target): Way {
  if (site === null) return UNKNOWN
  if (isFromSite(answer)) return { way: 'open' }
  if (!isOfTheWay(answer)) return UNKNOWN
  return { way: 'fault', detail: `a request was answered ${answer.status}, not from our Nginx` }
}
