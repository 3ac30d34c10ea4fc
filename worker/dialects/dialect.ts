import type { Json } from '../json.ts'

/** What one data frame of a stream says. */
export type Meaning =
  /** Text, reasoning, a tool call, audio. */
  | 'content'
  /** The reason why a choice, or the answer, is over, and no content with it. */
  | 'over'
  /** The role, usage, an item's opening: nothing yet that a tenant would miss. */
  | 'nothing'
  /** The endpoint's own last event, where that is not `[DONE]`. Only this proves that a stream is whole (L29). */
  | 'end'
  /** The engine reports an error inside a 200, as the first frame or later (L25). */
  | 'error'
  /** The engine gave the request up without being asked to: it is shutting down. */
  | 'aborted'

/** The last event of OpenAI's older streams. */
export const END = '[DONE]'

/** Tokens as frames tell them; null where they do not. */
export interface Tokens {
  readonly prompt: number | null
  readonly completion: number | null
  /** Of the prompt's, those that came out of vLLM's prefix cache. */
  readonly cached: number | null
}

/** An error as every shape of ours tells it. */
export interface ErrorDetail {
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string
}

/** How one endpoint speaks when it streams. All that relaying knows of it. */
export interface Dialect {
  /** Whether a request asks for something that vLLM only says outside of a stream. */
  readonly unstreamable: (body: Json) => boolean
  readonly meaning: (frame: Json) => Meaning
  /**
   * Whether a frame's text may say 'end', 'error' or 'aborted': looked at for every frame, before
   * anything is parsed. May be wrong in saying yes, never in saying no.
   */
  readonly notable: (frame: string) => boolean
  /** Whether `[DONE]` ends its streams. */
  readonly doneMark: boolean
  /** The model's name as a frame gives it; null where it does not. */
  readonly modelOf: (frame: Json) => string | null
  /** Which frames carry the model's name. */
  readonly modelIn: 'every-frame' | 'first-frame'
  /** Whether `"model":` in its frames is always the model's name, so that a search without reading finds nothing else. */
  readonly modelAlone: boolean
  /** Puts another name in place of the model's, and changes nothing else. `frame` is its whole text, `data:` included. */
  readonly rename: (frame: string, said: string, shown: string) => string
  /** Whether `return_token_ids` gives the ids of all tokens, so that they can be counted. */
  readonly tokenIds: boolean
  /** What the frames that mention usage say together, first and last of them given. */
  readonly tokensOf: (frames: readonly Json[]) => Tokens | null
  /**
   * Makes one JSON answer of all the data frames of a stream, an end mark left out, and the request
   * that was answered: vLLM's own unstreamed answer, field by field. Null: what did not ask for a stream is not
   * asked for as one.
   */
  readonly assemble: Assemble | null
  /**
   * Whether an answer in one piece has no content though the engine ended it by itself: not at its
   * limit, nor at a stop of the tenant's own. Null: no content is an answer like any other, as a
   * recording's silence is.
   */
  readonly isBlank: ((answer: Json) => boolean) | null
  /** An error, in the shape that this endpoint's SDKs throw. A whole frame, its empty line included. */
  readonly errorFrame: (error: ErrorDetail) => string
}

/** @returns null when the frames do not make a whole answer */
export type Assemble = (frames: readonly Json[], request: Json) => Json | null
