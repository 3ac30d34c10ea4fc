/** Where an answer was made: by the instance, by the site's Nginx, or on the way there (L14). */

/** Set by our Nginx, on every answer that it passes on or makes itself. */
const MARK = 'x-penstock-origin'
/** What vLLM's own server calls itself; seen where an Nginx that is not ours passes its answers on. */
const VLLM_SERVER = 'uvicorn'

type Head = Pick<Response, 'status' | 'headers'>

export const isMarked = ({ headers }: Pick<Response, 'headers'>): boolean => headers.has(MARK)

/** Whether it was made at the site, by its Nginx or behind it. */
export const isFromSite = (answer: Pick<Response, 'headers'>): boolean =>
  isMarked(answer) || answer.headers.get('server') === VLLM_SERVER

/**
 * Whether it was made on the way to a site: the tunnel's (530, 502, 504) or Access's (302, 403), and no
 * fault of the instance. A 503 without the mark may be anybody's.
 */
export const isOfTheWay = (answer: Head): boolean =>
  !isFromSite(answer) && answer.status >= 300 && answer.status < 600 && answer.status !== 503
