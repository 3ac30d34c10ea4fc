/** Anthropic's official package, with its own header for the key and its own shape of everything. */
import { HELPER, KINDS } from '../zoo/animal.ts'
import { countTokens, sayMessage, streamMessage } from '../zoo/anthropic.ts'
import { zooOf } from '../zoo/suite.ts'

zooOf([
  { ...KINDS.messages, name: 'messages', say: sayMessage },
  { ...KINDS.messages, ...HELPER, name: 'messages.stream()', say: streamMessage },
  { ...KINDS.counting, name: 'count_tokens', say: countTokens },
])
