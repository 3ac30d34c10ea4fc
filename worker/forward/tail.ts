import { END, type Json } from '../ingress/endpoints.ts'
import { dataOf } from './frames.ts'

/** Enough for the last frames of a stream: usage, an error with its message, `[DONE]`. */
const KEPT_BYTES = 8 * 1024
const DECODER = new TextDecoder()
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

export interface LastWords {
  readonly proof: Proof
  /** vLLM's token counts, when the last frames carry them. */
  readonly usage: { readonly prompt: number; readonly completion: number } | null
}

/** Usage or an error, the end mark, and one to spare. */
const LAST_FRAMES = 3

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

  /** What the last frames say. Looks at the bytes anew: ask once, at the end. */
  read(): LastWords {
    const frames = this.#lastFrames()
    const failed = frames.some(isError)
    const whole = frames.at(-1) === END
    return { proof: failed ? 'failed' : whole ? 'whole' : 'cut', usage: usageIn(frames) }
  }

  /** The data of the last frames in their order: usage or an error, then the end mark. */
  #lastFrames(): string[] {
    const text = DECODER.decode(this.#bytes.subarray(0, this.#length))
    const frames: string[] = []
    for (let end = text.length; end > 0 && frames.length < LAST_FRAMES;) {
      const start = Math.max(text.lastIndexOf('\n\n', end - 1), text.lastIndexOf('\n\r\n', end - 1))
      const data = dataOf(text.slice(start + 1, end))
      if (data !== null) frames.unshift(data)
      end = start
    }
    return frames
  }
}

function usageIn(frames: readonly string[]): LastWords['usage'] {
  const frame = frames.findLast((data) => data.includes('"usage"'))
  const usage = frame === undefined ? undefined : (parsed(frame)?.['usage'] as Json | undefined)
  const prompt = usage?.['prompt_tokens']
  const completion = usage?.['completion_tokens']
  return typeof prompt === 'number' && typeof completion === 'number'
    ? { prompt, completion }
    : null
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
