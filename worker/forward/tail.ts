import { END } from '../ingress/endpoints.ts'
import { parseObject } from '../json.ts'
import { dataOf } from './frames.ts'
import { usageOf, type Usage } from './usage.ts'

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
  readonly usage: Usage | null
}

/** Usage, the end mark, and one to spare. */
const LAST_FRAMES = 3

/** Remembers the end of a stream it is shown piece by piece, at a constant cost per piece. */
export class Tail {
  readonly #bytes = new Uint8Array(KEPT_BYTES)
  #length = 0
  /** Whether the last line, still unfinished, is a comment. */
  #midComment = false

  /** @returns whether the piece carries data; a comment proves that the line is open, not that the engine works */
  push(piece: Uint8Array): boolean {
    const kept = piece.subarray(-KEPT_BYTES)
    const stay = Math.min(this.#length, KEPT_BYTES - kept.byteLength)
    this.#bytes.copyWithin(0, this.#length - stay, this.#length)
    this.#bytes.set(kept, stay)
    this.#length = stay + kept.byteLength
    return this.#carriesData(piece)
  }

  #carriesData(piece: Uint8Array): boolean {
    let data = false
    let line = 0
    if (this.#midComment) line = piece.indexOf(LF) + 1
    if (this.#midComment && line === 0) return false
    for (let end = piece.indexOf(LF, line); !data && end !== -1; end = piece.indexOf(LF, line)) {
      data = !isIdle(piece[line])
      line = end + 1
    }
    const lastLine = piece.lastIndexOf(LF) + 1
    this.#midComment = piece[lastLine] === COLON
    return data || (lastLine < piece.byteLength && !isIdle(piece[lastLine]))
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
    const text = DECODER.decode(this.#bytes.subarray(0, this.#length))
    const frames = lastFrames(text)
    const whole = frames.at(-1) === END
    const proof = BAD_NEWS.test(text) ? 'failed' : whole ? 'whole' : 'cut'
    return { proof, usage: usageIn(frames) }
  }
}

/**
 * An error frame, or a choice that the engine gave up, anywhere in the tail. Inside a JSON string the
 * quotes would be escaped, so generated text can never look like either.
 */
const BAD_NEWS = /(?:^|\n)data: ?\{"error"|"finish_reason": ?"abort"/

/** The data of the last frames in their order: usage, then the end mark. */
function lastFrames(text: string): string[] {
  const frames: string[] = []
  for (let end = text.length; end > 0 && frames.length < LAST_FRAMES;) {
    const start = Math.max(text.lastIndexOf('\n\n', end - 1), text.lastIndexOf('\n\r\n', end - 1))
    const data = dataOf(text.slice(start + 1, end))
    if (data !== null) frames.unshift(data)
    end = start
  }
  return frames
}

function usageIn(frames: readonly string[]): Usage | null {
  const frame = frames.findLast((data) => data.includes('"usage"'))
  return usageOf(parseObject(frame ?? '') ?? {})
}

/** The first byte of a comment or of an empty line: no data. */
const isIdle = (first: number | undefined): boolean =>
  first === COLON || first === LF || first === CR
