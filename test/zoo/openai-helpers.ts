/** The OpenAI package's own accumulators of streams, which tell of an answer when it is whole. */
import { Hearing, type Ask, type Door, type Said } from './client.ts'
import { ASKS_USAGE, chatRequest, clientAt, responsesRequest, usageOf } from './openai.ts'

/** Says one thing through `chat.completions.stream()`. Never rejects. */
export function streamChat(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const stream = clientAt(door).chat.completions.stream({
      ...chatRequest(ask),
      ...(ask.usage && ASKS_USAGE),
    })
    stream.on('content', (delta) => {
      if (heard.piece(delta) && ask.leaves) stream.abort()
    })
    const { model, usage, choices } = await stream.finalChatCompletion()
    heard.note({ model, usage: usageOf(usage) })
    const { content, tool_calls: calls = [] } = choices[0]!.message
    if (content !== null) heard.note({ text: content })
    for (const [at, call] of calls.entries()) {
      if (call.type !== 'function') continue
      heard.call(at, { name: call.function.name, args: call.function.arguments })
    }
  })
}

/** Says one thing through `responses.stream()`. Never rejects. */
export function streamResponse(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const stream = clientAt(door).responses.stream(responsesRequest(ask))
    stream.on('response.output_text.delta', ({ delta }) => {
      if (heard.piece(delta) && ask.leaves) stream.abort()
    })
    const { model, usage, output, output_text: text } = await stream.finalResponse()
    heard.note({
      model,
      usage: usage ? { prompt: usage.input_tokens, completion: usage.output_tokens } : null,
      ...(text !== '' && { text }),
    })
    for (const item of output) {
      if (item.type !== 'function_call') continue
      heard.call(item.call_id, { name: item.name, args: item.arguments })
    }
  })
}
