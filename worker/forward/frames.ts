const DECODER = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })
const LF = 0x0a
const CR = 0x0d
const NOTHING = new Uint8Array(0)

/**
 * Splits bytes into whole frames (server-sent events, WHATWG HTML §9.2), each as its text, the empty
 * line that ends it included. What is unfinished stays bytes, so a character cut in two is never an
 * issue. Each byte is looked at a constant number of times, however the network cut the stream (L28).
 */
export class FrameSplitter {
  /** Pieces of the unfinished frame, in order. */
  #pending: Uint8Array[] = []

  /** @returns the frames that `bytes` complete; the array may be used again for other bytes */
  push(bytes: Uint8Array): string[] {
    const text = this.take(bytes)
    return text === '' ? [] : framesIn(text)
  }

  /** The same frames in one piece. */
  take(bytes: Uint8Array): string {
    const end = this.#lastEnd(bytes)
    if (end === 0) {
      if (bytes.byteLength > 0) this.#pending.push(bytes.slice())
      return ''
    }
    const whole = joined([...this.#pending, bytes.subarray(0, end)])
    this.#pending = end < bytes.byteLength ? [bytes.slice(end)] : []
    return DECODER.decode(whole)
  }

  /** What has come of a frame that is not whole yet. */
  get rest(): Uint8Array {
    return joined(this.#pending)
  }

  /** Whether something may be written here: never into half a frame (L29b). Empty lines are no frame. */
  get atBoundary(): boolean {
    return this.#pending.every((piece) => piece.every((byte) => byte === LF || byte === CR))
  }

  /** Where the last whole frame ends in `bytes`; 0 when none does. */
  #lastEnd(bytes: Uint8Array): number {
    for (
      let lf = bytes.lastIndexOf(LF);
      lf !== -1;
      lf = lf > 0 ? bytes.lastIndexOf(LF, lf - 1) : -1
    ) {
      if (this.#endsFrame(bytes, lf)) return lf + 1
    }
    return 0
  }

  /** Whether the line feed at `lf` ends an empty line: right after another one, or after CR LF CR. */
  #endsFrame(bytes: Uint8Array, lf: number): boolean {
    const before = this.#at(bytes, lf - 1)
    if (before === LF) return true
    return before === CR && this.#at(bytes, lf - 2) === LF
  }

  /** The byte at an index of `bytes`, or, before its beginning, of what is pending. */
  #at(bytes: Uint8Array, index: number): number | undefined {
    if (index >= 0) return bytes[index]
    let back = -index
    for (let i = this.#pending.length - 1; i >= 0; i--) {
      const piece = this.#pending[i] ?? NOTHING
      if (back <= piece.byteLength) return piece[piece.byteLength - back]
      back -= piece.byteLength
    }
    return undefined
  }
}

/** The frames of a text that ends with one. Neither kind of empty line is looked for twice in one place (L28). */
export function framesIn(text: string): string[] {
  if (text.indexOf('\n\n') === text.length - 2) return [text] // one frame a chunk, as engines write them
  const frames: string[] = []
  const lf = new Finder(text, '\n\n')
  const crlf = new Finder(text, '\n\r\n')
  for (let start = 0; start < text.length;) {
    const end = Math.min(lf.endAfter(start), crlf.endAfter(start), text.length)
    frames.push(text.slice(start, end))
    start = end
  }
  return frames
}

/** Finds a mark again and again, each time from further on. */
class Finder {
  readonly #text: string
  readonly #mark: string
  #found = -1

  constructor(text: string, mark: string) {
    this.#text = text
    this.#mark = mark
  }

  /** Where the next mark at or after `from` ends; Infinity when there is none. */
  endAfter(from: number): number {
    if (this.#found < from) {
      const at = this.#text.indexOf(this.#mark, from)
      this.#found = at === -1 ? Infinity : at
    }
    return this.#found + this.#mark.length
  }
}

/** Whether a frame has data; a comment such as `: keep-alive` proves that the line is open, not that the engine works. */
export const carriesData = (frame: string): boolean =>
  frame.startsWith('data:') || frame.includes('\ndata:')

/** Frames of a text that have data, counted by their lines: a second line of data counts as a frame more. */
export function dataFramesIn(text: string): number {
  let frames = text.startsWith('data:') ? 1 : 0
  for (let at = text.indexOf('\ndata:'); at !== -1; at = text.indexOf('\ndata:', at + 1)) frames++
  return frames
}

/** The data of one frame's lines, joined as the standard says; null when it has none. */
export function dataOf(frame: string): string | null {
  let data: string | null = null
  for (const line of frame.split(/\r?\n/)) {
    if (!line.startsWith('data:')) continue
    const value = line.slice(line[5] === ' ' ? 6 : 5)
    data = data === null ? value : `${data}\n${value}`
  }
  return data
}

/** One array of several. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [only] = pieces
  if (pieces.length <= 1) return only ?? NOTHING
  const whole = new Uint8Array(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.byteLength
  }
  return whole
}
