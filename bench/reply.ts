import { CONTENT_MARK, END_MARK } from './workload.ts'

/** An answer that is not the one that was asked for. A broken path must not look like a fast one. */
export class WrongReply extends Error {}

const LF = 0x0a
const NOTHING = Buffer.alloc(0)

/**
 * One chunked HTTP answer, read as its bytes come in. A client of our own and not `node:http`: on a small
 * machine the client's share of the time hides the difference between what stands behind it.
 */
export class Reply {
  /** Frames seen so far, `[DONE]` among them. */
  frames = 0
  /** When the read came that completed the first content frame's text, as given to {@link push}. */
  contentAt: number | null = null

  readonly #proof: string | null
  #unread: Buffer = NOTHING
  #part: 'head' | 'size' | 'data' | 'after-data' | 'end' = 'head'
  #left = 0
  #halfBreak = false
  #tail: Buffer = NOTHING
  #opening = ''

  /** @param proof a header, in lower case, that tells that the answer came the way it should have */
  constructor(proof: string | null) {
    this.#proof = proof
  }

  /**
   * @param at milliseconds, of any clock
   * @returns  whether the answer is whole
   * @throws   WrongReply where it is not a chunked 200 with the proof in its head
   */
  push(bytes: Buffer, at: number): boolean {
    let rest = this.#unread.length > 0 ? Buffer.concat([this.#unread, bytes]) : bytes
    this.#unread = NOTHING
    for (;;) {
      if (this.#part === 'data') {
        const piece = rest.subarray(0, this.#left)
        this.#left -= piece.length
        rest = rest.subarray(piece.length)
        if (piece.length > 0) this.#body(piece, at)
        if (this.#left > 0) return false
        this.#part = 'after-data'
      }
      const mark = this.#part === 'head' ? '\r\n\r\n' : '\r\n'
      const end = rest.indexOf(mark)
      if (end === -1) {
        this.#unread = rest
        return false
      }
      const line = rest.toString('latin1', 0, end)
      rest = rest.subarray(end + mark.length)
      if (this.#line(line, rest)) return true
    }
  }

  /** @throws WrongReply where the body was not `frames` whole frames with the end mark as the last */
  check(frames: number): void {
    const last = this.#tail.toString('latin1')
    if (last !== END_MARK) throw new WrongReply(`the stream ended with ${JSON.stringify(last)}`)
    if (this.frames !== frames) throw new WrongReply(`${this.frames} frames instead of ${frames}`)
    if (this.contentAt === null) throw new WrongReply('a stream without content')
  }

  /** Takes the head or a line between chunks; true at the end of the answer. */
  #line(line: string, rest: Buffer): boolean {
    switch (this.#part) {
      case 'head': {
        const head = line.toLowerCase()
        const fits = head.startsWith('http/1.1 200') && head.includes('transfer-encoding: chunked')
        if (!fits || (this.#proof !== null && !head.includes(this.#proof))) {
          const wanted = this.#proof === null ? '' : ` with "${this.#proof}"`
          const got = `${line}\n\n${rest.toString('utf8', 0, 500)}`
          throw new WrongReply(`expected a chunked 200${wanted}, got\n${got}`)
        }
        this.#part = 'size'
        return false
      }
      case 'after-data':
        this.#part = 'size'
        return false
      case 'size': {
        const size = Number.parseInt(line, 16)
        if (!(size >= 0)) throw new WrongReply(`${JSON.stringify(line)} is no chunk size`)
        this.#left = size
        this.#part = size === 0 ? 'end' : 'data'
        return false
      }
      case 'end':
        if (line !== '' || rest.length > 0)
          throw new WrongReply('bytes after the end of the answer')
        return true
      case 'data':
        throw new Error('data has no lines')
    }
  }

  #body(piece: Buffer, at: number): void {
    let from = 0
    if (this.#halfBreak && piece[0] === LF) {
      this.frames++
      from = 1
    }
    for (let end = piece.indexOf('\n\n', from); end !== -1; end = piece.indexOf('\n\n', from)) {
      this.frames++
      from = end + 2
    }
    this.#halfBreak = piece.length > from && piece.at(-1) === LF

    const size = END_MARK.length
    this.#tail = piece.length >= size ? piece.subarray(-size) : this.#tailWith(piece, size)
    if (this.contentAt !== null) return
    this.#opening += piece.toString('latin1')
    if (this.#opening.includes(CONTENT_MARK)) this.contentAt = at
  }

  #tailWith(piece: Buffer, size: number): Buffer {
    return Buffer.concat([this.#tail, piece]).subarray(-size)
  }
}
