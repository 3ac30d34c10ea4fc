/** A client that hides nothing: it says when each piece of an answer came, and leaves when told to. */
import * as http from 'node:http'
import * as https from 'node:https'

export interface Question {
  /** Below the router's URL, e.g. `/v1/models`. */
  readonly path: string
  /** Null: without one. */
  readonly key: string | null
  readonly userAgent?: string
  /** Sent as JSON, by POST; without one, GET. */
  readonly body?: object
  /** Milliseconds that the answer takes by its nature; the bound is counted from there. */
  readonly expectedMs?: number
  /** The answer goes on until it is left: bounded is not the whole of it, but each pause. */
  readonly goesOn?: boolean
}

/** So long an answer may take until its end, in milliseconds. */
export interface Bounds {
  /** Of a question to the router alone. */
  readonly router: number
  /** Of one to a model. */
  readonly model: number
}

export const BOUNDS: Bounds = { router: 30_000, model: 120_000 }

/** An answer that did not end, or did not even begin, within its bound. */
export class TooSlow extends Error {
  override readonly name = 'TooSlow'
  /** Whether its head had come. */
  readonly hasBegun: boolean

  constructor(ms: number, hasBegun: boolean, goesOn: boolean) {
    const seconds = `${Math.round(ms / 100) / 10} s`
    super(
      !hasBegun
        ? `no answer within ${seconds}`
        : goesOn
          ? `the answer stopped: nothing more came for ${seconds}`
          : `the answer began, but was not whole within ${seconds}`,
    )
    this.hasBegun = hasBegun
  }
}

/** What came at once. */
export interface Piece {
  /** Milliseconds since the question. */
  readonly at: number
  readonly text: string
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  readonly pieces: readonly Piece[]
  /** False where the connection broke before the body's end. */
  readonly complete: boolean
  /** Milliseconds from the question to the end. */
  readonly ms: number
}

/** An answer on its way. */
export interface Arriving {
  /** What has come so far. */
  readonly pieces: readonly Piece[]
  /** Resolves with the first piece; null where there is none. */
  readonly first: Promise<Piece | null>
  /** Resolves at the end, whatever ends it; rejects where there was no answer at all, and as {@link TooSlow}. */
  readonly ended: Promise<Answer>
  /** Drops the connection. */
  leave(): void
}

export type Send = (question: Question) => Arriving

/**
 * Each question goes over a connection of its own, without any header that a library would add: what a
 * firewall thinks of a user agent is asked of the user agent alone.
 *
 * @param base   URL of the router
 * @param now    monotonic milliseconds
 * @param bounds after which a question is given up
 */
export const sender =
  (base: string, now: () => number, bounds: Bounds = BOUNDS): Send =>
  ({ path, key, userAgent = 'penstock-smoke', body, expectedMs = 0, goesOn = false }) => {
    const url = new URL(base.replace(/\/+$/, '') + path)
    const sent = body === undefined ? null : JSON.stringify(body)
    const began = now()
    const pieces: Piece[] = []
    const first = Promise.withResolvers<Piece | null>()
    const ended = Promise.withResolvers<Answer>()
    const { request: ask } = url.protocol === 'https:' ? https : http
    const request = ask(url, {
      method: sent === null ? 'GET' : 'POST',
      agent: false,
      headers: {
        'user-agent': userAgent,
        accept: '*/*',
        ...(key !== null && { authorization: `Bearer ${key}` }),
        ...(sent !== null && {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(sent),
        }),
      },
    })
    let hasBegun = false
    const most = (body === undefined ? bounds.router : bounds.model) + expectedMs
    const bound = setTimeout(() => {
      first.resolve(null)
      ended.reject(new TooSlow(most, hasBegun, goesOn))
      request.destroy()
    }, most)
    request.on('error', (cause) => {
      first.resolve(null)
      ended.reject(cause) // without effect once there is an answer
    })
    request.on('response', (response) => {
      hasBegun = true
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        const piece = { at: now() - began, text }
        pieces.push(piece)
        first.resolve(piece)
        if (goesOn) bound.refresh()
      })
      response.on('error', () => undefined) // told by `complete`
      response.on('close', () => {
        first.resolve(null)
        ended.resolve({
          status: response.statusCode ?? 0,
          headers: flat(response.headers),
          text: pieces.map(({ text }) => text).join(''),
          pieces,
          complete: response.complete,
          ms: now() - began,
        })
      })
    })
    request.end(sent ?? undefined)
    const unbind = (): void => clearTimeout(bound)
    ended.promise.then(unbind, unbind) // whoever leaves need not listen
    return {
      pieces,
      first: first.promise,
      ended: ended.promise,
      leave: () => void request.destroy(),
    }
  }

const flat = (headers: http.IncomingHttpHeaders): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
