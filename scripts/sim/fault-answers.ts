import { finish, type Exchange } from './exchange.ts'
import { BAD_GATEWAY_HTML, REDIRECT_HTML, type Fault } from './faults.ts'
import { errorReply } from './reply.ts'

/** Faults that replace the answer. @returns whether this one did */
export function strikeAtOnce(exchange: Exchange, fault: Fault): boolean {
  const { record } = exchange
  switch (fault.kind) {
    case 'hang':
      record.outcome = 'hung'
      exchange.request.resume()
      return true
    case 'status': {
      const types = fault.status === 503 ? 'Service Unavailable' : 'InternalServerError'
      const busy = 'The engine is currently busy and cannot accept new requests.'
      const broken = 'The server had an error while processing your request.'
      const message = fault.status === 503 ? busy : broken
      exchange.request.resume()
      setTimeout(() => {
        finish(exchange, errorReply(message, types, null, fault.status))
      }, fault.delayMs ?? 5)
      return true
    }
    case 'html':
      exchange.request.resume()
      finish(exchange, {
        status: fault.status ?? 502,
        body: BAD_GATEWAY_HTML,
        type: 'text/html',
      })
      return true
    case 'redirect':
      exchange.request.resume()
      finish(exchange, {
        status: 302,
        body: REDIRECT_HTML,
        type: 'text/html',
        headers: [['location', fault.location ?? 'https://login.example.com/cdn-cgi/access/login']],
      })
      return true
    case 'refuse':
    case 'freeze':
    case 'stream-error':
    case 'cut':
    case 'early-end':
    case 'empty':
    case 'slow':
    case 'abort':
    case 'keep-alive':
    case 'silence':
    case 'late-start':
    case 'close':
      return false
  }
}
