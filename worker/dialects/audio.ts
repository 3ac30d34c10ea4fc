import { chat } from './chat.ts'
import type { Dialect } from './dialect.ts'

/**
 * Transcriptions and translations, streamed with the form's `stream=true`: chat's chunks by another
 * name (`transcription.chunk`, `translation.chunk`; vLLM 0.23 to 0.33). Without a stream the answer
 * may be text or subtitles, which no stream carries, so it is never asked for as one.
 */
export const audio: Dialect = {
  ...chat,
  unstreamable: () => true,
  tokenIds: false,
  assemble: null,
  isBlank: null,
}
