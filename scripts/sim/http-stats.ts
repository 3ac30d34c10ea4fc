import { Histogram } from './engine-stats.ts'

interface PerHandler {
  requestBytes: number
  responseBytes: number
  count: number
}

const HIGH_RESOLUTION = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30,
  60,
]

/** What the HTTP layer counts, as prometheus-fastapi-instrumentator does. */
export class HttpStats {
  /** Requests by `handler|method|2xx`. */
  readonly requests = new Map<string, number>()
  readonly sizes = new Map<string, PerHandler>()
  /** Durations in seconds by `handler|method`. */
  readonly durations = new Map<string, Histogram>()
  readonly all = new Histogram(HIGH_RESOLUTION)

  /**
   * Counts one answered request.
   * @param handler the route's path, or `none`
   * @param requestBytes the announced size of the request's body
   * @param responseBytes the announced size of the answer; 0 for a stream
   */
  count(
    handler: string,
    method: string,
    status: number,
    seconds: number,
    requestBytes: number,
    responseBytes: number,
  ): void {
    const key = `${handler}|${method}|${Math.floor(status / 100)}xx`
    this.requests.set(key, (this.requests.get(key) ?? 0) + 1)
    const sizes = this.sizes.get(handler) ?? { requestBytes: 0, responseBytes: 0, count: 0 }
    sizes.requestBytes += requestBytes
    sizes.responseBytes += responseBytes
    sizes.count++
    this.sizes.set(handler, sizes)
    const durations = this.durations.get(`${handler}|${method}`) ?? new Histogram([0.1, 0.5, 1])
    durations.observe(seconds)
    this.durations.set(`${handler}|${method}`, durations)
    this.all.observe(seconds)
  }
}
