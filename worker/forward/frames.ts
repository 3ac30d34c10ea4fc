/**
 * One server-sent event: the data of an event, or null for a comment such as `: keep-alive`.
 * WHATWG HTML §9.2; vLLM sends one `data:` line a frame, ended by an empty line.
 */
export type Frame = string | null

/**
 * Splits bytes into whole frames, holding back an unfinished one. Each byte is looked at a constant
 * number of times, however the network cut the stream (L28).
 */
export class FrameSplitter {
  readonly #decoder = new TextDecoder()
  #pending = ''
  /** Where the search for the end of the pending frame goes on. */
  #searched = 0

  push(bytes: Uint8Array): Frame[] {
    this.#pending += this.#decoder.decode(bytes, { stream: true })
    const frames: Frame[] = []
    let start = 0
    for (;;) {
      const end = endOfFrame(this.#pending, Math.max(start, this.#searched))
      if (end === null) break
      frames.push(dataOf(this.#pending.slice(start, end.at)))
      start = end.next
      this.#searched = start
    }
    this.#pending = this.#pending.slice(start)
    // An end of up to four characters may itself have been cut.
    this.#searched = Math.max(0, this.#pending.length - 3)
    return frames
  }
}

/** The data of one frame's lines, joined as the standard says; null when it has none. */
export function dataOf(frame: string): Frame {
  let data: string | null = null
  for (const line of frame.split(/\r?\n/)) {
    if (!line.startsWith('data:')) continue
    const value = line.slice(line[5] === ' ' ? 6 : 5)
    data = data === null ? value : `${data}\n${value}`
  }
  return data
}

function endOfFrame(text: string, from: number): { at: number; next: number } | null {
  const lf = text.indexOf('\n\n', from)
  const crlf = text.indexOf('\r\n\r\n', from)
  if (crlf !== -1 && (lf === -1 || crlf < lf)) return { at: crlf, next: crlf + 4 }
  return lf === -1 ? null : { at: lf, next: lf + 2 }
}
