/** The official OpenAI package in Node, every part of it that the router serves. */
import { expect, it } from 'vitest'
import { keyOf } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { HELPER, KINDS, type Animal } from '../zoo/animal.ts'
import { streamChat, streamResponse } from '../zoo/openai-helpers.ts'
import { sayOpenAI, type OpenAISurface } from '../zoo/openai.ts'
import { zooOf } from '../zoo/suite.ts'

const { chat, completions, responses, embeddings, transcriptions } = KINDS
const PARTS = {
  chat,
  completions,
  responses,
  embeddings,
  transcriptions,
  // The package streams transcriptions alone.
  translations: { ...transcriptions, streams: false },
} as const satisfies Readonly<Record<OpenAISurface, unknown>>

const zoo = zooOf([
  ...(Object.keys(PARTS) as OpenAISurface[]).map((part): Animal => ({
    ...PARTS[part],
    name: part,
    say: (door, asked) => sayOpenAI(part, door, asked),
  })),
  // The helpers put a stream together again, and are strict about its parts.
  { ...chat, ...HELPER, name: 'chat.stream()', say: streamChat },
  { ...responses, ...HELPER, name: 'responses.stream()', say: streamResponse },
])

it('what it minded no more than this were comments indeed', async () => {
  const { stack } = zoo()
  const streamOf = async (model: string): Promise<string> => {
    const body = { model, stream: true, max_tokens: 8, messages: [{ role: 'user', content: 'hm' }] }
    return (await ask(`${stack.url}/v1/chat/completions`, { headers: keyOf(stack), body })).text
  }
  await Promise.all(
    ['', 'the-'].map(async (name) => {
      expect(await streamOf(`${name}slow`)).toMatch(/^(: ping\n)+data: /)
      expect(await streamOf(`${name}commenting`)).toMatch(/\n\n: keep-alive\n\ndata: /)
    }),
  )
})
