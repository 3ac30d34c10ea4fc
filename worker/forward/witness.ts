import { END, type Dialect } from '../dialects/dialect.ts'
import { parseObject, type Json } from '../json.ts'
import { carriesData, dataFramesIn, dataOf, framesIn } from './frames.ts'
import { idsIn, type Usage } from './usage.ts'

/** Without its first quote: a search that begins with the commonest character stops at every one. */
const USAGE = 'usage"'

/** What the frames of a stream prove. */
export type Proof =
  /** The endpoint's own last event was seen, and no error before it. */
  | 'whole'
  /** The engine reported an error inside the stream; a `[DONE]` after it is no success (L29). */
  | 'failed'
  /** The engine gave the request up. */
  | 'aborted'
  /** It just stopped. */
  | 'cut'

/**
 * Sees every frame of one answer go by and can say, at any time, what they prove and what was used.
 * Its work on a frame is a few searches in a short text: nothing is parsed but what is out of the
 * ordinary, and nothing is kept but the last word on usage (L28).
 */
export class Witness {
  readonly #dialect: Dialect
  readonly #wantsIds: boolean
  #proof: Proof = 'cut'
  /** Data frames that were neither an error nor the end. */
  #going = 0
  #ids = 0
  #promptIds: number | null = null
  #firstUsage: string | null = null
  #lastUsage: string | null = null

  /** @param wantsIds whether the ids of all tokens were asked for: an echo has the prompt's all the same */
  constructor(dialect: Dialect, wantsIds = true) {
    this.#dialect = dialect
    this.#wantsIds = wantsIds
  }

  get proof(): Proof {
    return this.#proof
  }

  /**
   * Sees many frames in one text. Where none of them is out of the ordinary, they need not be told apart.
   * @returns whether any of them carries data
   */
  seeAll(text: string): boolean {
    if (text === '') return false
    if (text.includes(USAGE) || text.includes(END) || this.#dialect.notable(text)) {
      return framesIn(text).filter((frame) => this.see(frame)).length > 0
    }
    this.#count(text)
    const frames = dataFramesIn(text)
    this.#going += frames
    return frames > 0
  }

  /** @returns whether the frame carries data */
  see(frame: string): boolean {
    if (!carriesData(frame)) return false
    this.#count(frame)
    if (frame.includes(USAGE)) {
      this.#firstUsage ??= frame
      this.#lastUsage = frame
    }
    if (this.#proof !== 'cut') return true
    if (frame.includes(END) || this.#dialect.notable(frame)) this.#judge(frame)
    if (this.#proof === 'cut') this.#going++
    return true
  }

  /**
   * @param promptEstimate tokens of the prompt, for when nobody says
   * @returns null when nothing came that tells of any work
   */
  usage(promptEstimate: number): Usage | null {
    if (this.#going === 0 && this.#lastUsage === null) return null
    const told = [this.#firstUsage, this.#lastUsage].map(parsed).filter((frame) => frame !== null)
    const { prompt = null, completion = null, cached = null } = this.#dialect.tokensOf(told) ?? {}
    // Usage on a chunk is of one choice, and of a stream that was cut the ids know more.
    const final = this.#proof === 'whole' || this.#ids === 0
    if (final && prompt !== null && completion !== null) {
      return { prompt, completion, cached, counted: 'reported' }
    }
    const promptTokens = prompt ?? this.#promptIds
    if (this.#wantsIds && promptTokens !== null && this.#promptIds !== null) {
      return { prompt: promptTokens, completion: this.#ids, cached, counted: 'ids' }
    }
    return {
      prompt: promptTokens ?? promptEstimate,
      completion: this.#ids || this.#going,
      cached,
      counted: 'estimate',
    }
  }

  #count(text: string): void {
    const { answer, prompt } = idsIn(text)
    this.#ids += answer
    this.#promptIds ??= prompt
  }

  #judge(frame: string): void {
    const data = dataOf(frame)
    if (data === END) {
      if (this.#dialect.doneMark) this.#proof = 'whole'
      return
    }
    const meaning = this.#dialect.meaning(parseObject(data ?? '') ?? {})
    if (meaning === 'end') this.#proof = 'whole'
    else if (meaning === 'error') this.#proof = 'failed'
    else if (meaning === 'aborted') this.#proof = 'aborted'
  }
}

const parsed = (frame: string | null): Json | null =>
  frame === null ? null : parseObject(dataOf(frame) ?? '')
