/**
 * The instance behind every row, in a process of its own: it answers at once and writes each frame to the
 * socket by itself. Not the simulator, whose engine steps on a timer: its jitter would be larger than
 * what is measured. Says its port to the process that forked it.
 */
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { END_MARK, FRAMES, framedAs, MODEL, orderIn, SITE_MODEL } from './workload.ts'

const chunked = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`

const STREAM_HEAD = Buffer.from(
  'HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n' +
    'transfer-encoding: chunked\r\n\r\n',
)
/** Made once, not for every frame. */
const pieces = (model: string) => ({
  role: Buffer.from(chunked(framedAs(FRAMES.role, model))),
  content: Buffer.from(chunked(framedAs(FRAMES.content, model))),
  finish: Buffer.from(chunked(framedAs(FRAMES.finish, model))),
})
const PIECES = new Map([MODEL, SITE_MODEL].map((model) => [model, pieces(model)]))
const DONE = Buffer.from(chunked(END_MARK))
const LAST_CHUNK = Buffer.from('0\r\n\r\n')

/** What the router's health check reads. */
const PAGES: Readonly<Record<string, { readonly type: string; readonly body: string }>> = {
  '/metrics': {
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: 'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n',
  },
  '/v1/models': {
    type: 'application/json',
    body: JSON.stringify({
      object: 'list',
      data: [MODEL, SITE_MODEL].map((id) => ({ id, object: 'model' })),
    }),
  },
  '/v1/completions': {
    type: 'application/json',
    body: JSON.stringify({
      object: 'text_completion',
      choices: [{ index: 0, text: 'x', finish_reason: 'length' }],
    }),
  },
}

interface Asked {
  readonly path: string
  readonly body: string
  /** Bytes that it took. */
  readonly size: number
}

/** The first request in `bytes`; null while it is not whole. Its length must be given in the head. */
function firstIn(bytes: Buffer): Asked | null {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd === -1) return null
  const head = bytes.toString('latin1', 0, headEnd)
  if (/^transfer-encoding:/im.test(head)) throw new Error('a body without a length')
  const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0)
  const start = headEnd + 4
  if (bytes.length < start + length) return null
  return {
    path: head.split(' ', 2)[1] ?? '',
    body: bytes.toString('utf8', start, start + length),
    size: start + length,
  }
}

function answer(socket: Socket, { path, body }: Asked, done: () => void): void {
  if (path === '/v1/chat/completions') return stream(socket, orderIn(body), done)
  const page = PAGES[path]
  const [status, text] = page ? ['200 OK', page.body] : ['404 Not Found', '']
  socket.write(
    `HTTP/1.1 ${status}\r\nserver: uvicorn\r\ncontent-type: ${page?.type ?? 'text/plain'}\r\n` +
      `content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
  done()
}

function stream(socket: Socket, order: ReturnType<typeof orderIn>, done: () => void): void {
  const { role, content, finish } = PIECES.get(order.model) ?? pieces(order.model)
  let left = order.frames - 3 // the role before them, finish and usage behind
  const close = () => {
    socket.write(finish)
    socket.write(chunked(framedAs(FRAMES.usage(order), order.model)))
    socket.write(DONE)
    socket.write(LAST_CHUNK)
    done()
  }
  socket.write(STREAM_HEAD)
  socket.write(role)
  if (order.everyMs === 0) {
    for (; left > 0; left--) socket.write(content)
    return close()
  }
  const timer = setInterval(() => {
    socket.write(content)
    if (--left > 0) return
    clearInterval(timer)
    close()
  }, order.everyMs)
  socket.once('close', () => clearInterval(timer))
}

function serve(socket: Socket): void {
  let unread: Buffer = Buffer.alloc(0)
  let busy = false
  const next = () => {
    const asked = busy ? null : firstIn(unread)
    if (!asked) return
    unread = unread.subarray(asked.size)
    busy = true
    answer(socket, asked, () => {
      busy = false
      if (unread.length > 0) next()
    })
  }
  socket.on('data', (bytes) => {
    unread = unread.length > 0 ? Buffer.concat([unread, bytes]) : bytes
    next()
  })
  socket.on('error', () => socket.destroy())
}

const server = createServer({ noDelay: true }, serve)
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.on('disconnect', () => process.exit()) // whoever forked us is gone
