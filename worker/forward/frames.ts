/**
 * One server-sent event: the data of an event, or null for a comment such as `: keep-alive`.
 * WHATWG HTML §9.2; vLLM sends one `data:` line a frame, ended by an empty line.
 */
export type Frame = string | null

const DECODER = new TextDecoder()
const LF = 0x0a
const CR = 0x0d
const NOTHING = new Uint8Array(0)

/**
 * Splits bytes into whole frames, holding back an unfinished one. Works on bytes, so a character cut
 * in two is never an issue. Each byte is looked at a constant number of times, however the network
 * cut the stream (L28).
 */
export class FrameSplitter {
  /** Pieces of the unfinished frame, in order. */
  #pending: Uint8Array[] = []

  push(bytes: Uint8Array): Frame[] {
    const frames: Frame[] = []
    let start = 0
    for (let lf = bytes.indexOf(LF); lf !== -1; lf = bytes.indexOf(LF, lf + 1)) {
      if (!this.#endsFrame(bytes, lf, start)) continue
      frames.push(dataOf(DECODER.decode(this.#take(bytes.subarray(start, lf + 1)))))
      start = lf + 1
    }
    if (start < bytes.byteLength) this.#pending.push(bytes.subarray(start))
    return frames
  }

  /** Whether the line feed at `lf` ends an empty line: right after another one, or after CR LF CR. */
  #endsFrame(bytes: Uint8Array, lf: number, start: number): boolean {
    const before = this.#at(bytes, lf - 1, start)
    if (before === LF) return true
    return before === CR && this.#at(bytes, lf - 2, start) === LF
  }

  /** The byte at an index of `bytes`, or, before the frame's part of it, of what is pending. */
  #at(bytes: Uint8Array, index: number, start: number): number | undefined {
    if (index >= start) return bytes[index]
    let back = start - index
    for (let i = this.#pending.length - 1; i >= 0; i--) {
      const piece = this.#pending[i] ?? NOTHING
      if (back <= piece.byteLength) return piece[piece.byteLength - back]
      back -= piece.byteLength
    }
    return undefined
  }

  /** The whole frame: what was pending, and its last piece. */
  #take(last: Uint8Array): Uint8Array {
    if (this.#pending.length === 0) return last
    const pieces = [...this.#pending, last]
    this.#pending = []
    return joined(pieces)
  }
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
