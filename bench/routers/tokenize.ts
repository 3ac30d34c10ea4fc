/**
 * vLLM's `POST /tokenize`, which the simulator does not have: vllm-router's `cache_aware` asks it for the
 * tokens of every prompt, and cannot tell prefixes apart without.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { promptsOf } from '../../scripts/sim/prompt.ts'
import type { Body } from '../../scripts/sim/body.ts'

/** What Node tells before a request is handled. */
interface RequestStart {
  readonly server: Server
}

/** Puts it in front of every HTTP server of this process. */
export function serveTokenize(): void {
  const known = new WeakSet<Server>()
  subscribe('http.server.request.start', (message) => {
    const { server } = message as RequestStart
    if (known.has(server)) return
    known.add(server)
    const others = server.listeners('request')
    server.removeAllListeners('request')
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (request.url === '/tokenize') void tokenize(request, response)
      else for (const handle of others) Reflect.apply(handle, server, [request, response])
    })
  })
}

async function tokenize(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const body = JSON.parse(Buffer.concat(parts).toString()) as Body
  const tokens = promptsOf(body)[0]?.ids ?? []
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(
    JSON.stringify({ count: tokens.length, max_model_len: 8_192, tokens, token_strs: null }),
  )
}
