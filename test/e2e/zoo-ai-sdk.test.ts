/** The AI SDK (`ai`) with `@ai-sdk/openai-compatible`. */
import { KINDS } from '../zoo/animal.ts'
import { sayEmbed, sayText } from '../zoo/ai-sdk.ts'
import { zooOf } from '../zoo/suite.ts'

zooOf([
  { ...KINDS.chat, name: 'generateText, streamText', say: sayText },
  // It sends nothing but a model and a text, which vLLM has no reason to refuse.
  { ...KINDS.embeddings, refusal: null, name: 'embed', say: sayEmbed },
])
