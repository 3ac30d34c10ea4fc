import { END, type Json } from '../ingress/endpoints.ts'
import { dataOf } from './frames.ts'

/** Enough for the last frames of a stream: usage, an error with its message, `[DONE]`. */
const KEPT_BYTES = 8 * 1024
const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a

/** What the last bytes of a stream prove. */
export type Proof =
  /** The end mark was seen, and no error before it. */
  | 'whole'
  /** The engine reported an error inside the stream; a `[DONE]` after it is no success (L29). */
  | 'failed'
  /** It just stopped. */
  | 'cut'

/** Remembers the end of a stream it is shown piece by piece, at a constant cost per piece. */
export class Tail {
  readonly #bytes = new Uint8Array(KEPT_BYTES)
  #length = 0

  /** @returns whether the piece carries data; a comment proves that the line is open, not that the engine works */
  push(piece: Uint8Array): boolean {
    const kept = piece.subarray(-KEPT_BYTES)
    const stay = Math.min(this.#length, KEPT_BYTES - kept.byteLength)
    this.#bytes.copyWithin(0, this.#length - stay, this.#length)
    this.#bytes.set(kept, stay)
    this.#length = stay + kept.byteLength
    return carriesData(piece)
  }

  /** Whether something may be written after what was sent: never into half a frame (L29b). */
  get atBoundary(): boolean {
    const last = (back: number): number | undefined => this.#bytes[this.#length - back]
    if (this.#length === 0) return true
    if (last(1) !== LF) return false
    return last(2) === LF || (last(2) === CR && last(3) === LF)
  }

  get proof(): Proof {
    const frames = this.#frames()
    if (frames.some(isError)) return 'failed'
    return frames.at(-1) === END ? 'whole' : 'cut'
  }

  /** vLLM's token counts, when the last frames carry them. */
  get usage(): { readonly prompt: number; readonly completion: number } | null {
    for (const frame of this.#frames().toReversed()) {
      const usage = frame.includes('"usage"')
        ? (parsed(frame)?.['usage'] as Json | undefined)
        : undefined
      const prompt = usage?.['prompt_tokens']
      const completion = usage?.['completion_tokens']
      if (typeof prompt === 'number' && typeof completion === 'number')
        return { prompt, completion }
    }
    return null
  }

  /** The data of the last three frames: usage or error, the end mark, and one to spare. */
  #frames(): string[] {
    const text = new TextDecoder().decode(this.#bytes.subarray(0, this.#length))
    return text
      .split(/\r?\n\r?\n/)
      .map(dataOf)
      .filter((data) => data !== null)
      .slice(-3)
  }
}

function carriesData(piece: Uint8Array): boolean {
  for (let line = 0; line < piece.byteLength; line = piece.indexOf(LF, line) + 1) {
    const first = piece[line]
    if (first !== COLON && first !== LF && first !== CR) return true
    if (piece.indexOf(LF, line) === -1) return false
  }
  return false
}

const isError = (frame: string): boolean => frame.startsWith('{"error"') && parsed(frame) !== null

function parsed(frame: string): Json | null {
  try {
    return JSON.parse(frame) as Json
  } catch {
    return null
  }
}
