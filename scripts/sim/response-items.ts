/** The output items of `/v1/responses`: a message, reasoning, a function call; whole and as events. */
import type { Output } from './answer.ts'
import type { ScriptChoice, ScriptToken } from './script.ts'

export type ItemKind = 'message' | 'reasoning' | 'function_call'

type Fields = Readonly<Record<string, unknown>>

/** An event's name, its fields before the sequence number, and those after it. */
export type ItemEvent = readonly [string, Fields, Fields?]

/** The item a token belongs to; null for one that shows nothing. */
export function itemKind({ kind, delta }: ScriptToken): ItemKind | null {
  if (kind === 'name') return 'function_call'
  if (kind === 'silent' || delta === '') return null
  if (kind === 'reasoning') return 'reasoning'
  return kind === 'arguments' ? 'function_call' : 'message'
}

const PREFIX = { message: 'msg_', reasoning: 'rs_', function_call: 'fc_' }

const textPart = (text: string, logprobs: readonly unknown[] | null) => ({
  annotations: [],
  text,
  type: 'output_text',
  logprobs,
})

/** One item of the output, while it is being said and when it is whole. */
export class Item {
  readonly kind: ItemKind
  /** Which call of the answer it is; -1 where it is none. */
  readonly call: number
  readonly #index: number
  readonly #id: string
  readonly #name: string
  #text = ''

  /** @param stem what ids of this response are made of */
  constructor(kind: ItemKind, call: number, index: number, stem: string, choice: ScriptChoice) {
    this.kind = kind
    this.call = call
    this.#index = index
    this.#id = `${PREFIX[kind]}${stem}${index === 0 ? '' : index}`
    this.#name = choice.calls[call]?.name ?? ''
  }

  get #place(): Fields {
    const content = this.kind === 'function_call' ? {} : { content_index: 0 }
    return { ...content, item_id: this.#id, output_index: this.#index }
  }

  added(): ItemEvent[] {
    const item = this.#shown('in_progress')
    const added: ItemEvent = ['response.output_item.added', { item, output_index: this.#index }]
    if (this.kind === 'function_call') return [added]
    const part = this.#part([])
    const name = this.kind === 'message' ? 'content_part' : 'reasoning_part'
    return [added, [`response.${name}.added`, { ...this.#place, part }]]
  }

  delta(delta: string): ItemEvent {
    this.#text += delta
    switch (this.kind) {
      case 'message':
        return [
          'response.output_text.delta',
          {
            content_index: 0,
            delta,
            item_id: this.#id,
            logprobs: [],
            output_index: this.#index,
          },
        ]
      case 'reasoning':
        return [
          'response.reasoning_text.delta',
          { content_index: 0, delta, item_id: this.#id, output_index: this.#index },
        ]
      case 'function_call':
        return [
          'response.function_call_arguments.delta',
          { delta, item_id: this.#id, output_index: this.#index },
        ]
    }
  }

  done(): ItemEvent[] {
    const item = this.whole()
    const done: ItemEvent = ['response.output_item.done', { item, output_index: this.#index }]
    switch (this.kind) {
      case 'message': {
        const { item_id, output_index, content_index } = this.#place
        const place = { content_index, item_id, logprobs: [], output_index }
        const part = this.#part(null)
        return [
          ['response.output_text.done', place, { text: this.#text }],
          ['response.content_part.done', { ...this.#place, part }],
          done,
        ]
      }
      case 'reasoning': {
        const part = this.#part(null)
        return [
          ['response.reasoning_text.done', this.#place, { text: this.#text }],
          ['response.reasoning_part.done', { ...this.#place, part }],
          done,
        ]
      }
      case 'function_call': {
        const said = { arguments: this.#text, ...this.#place, name: this.#name }
        return [['response.function_call_arguments.done', said], done]
      }
    }
  }

  /** The item as the whole answer shows it. */
  whole(): Fields {
    return this.#shown('completed')
  }

  /** Adds text without an event. */
  say(text: string): void {
    this.#text += text
  }

  #part(logprobs: readonly unknown[] | null): Fields {
    return this.kind === 'message'
      ? textPart(this.#text, logprobs)
      : { text: this.#text, type: 'reasoning_text' }
  }

  #shown(status: 'in_progress' | 'completed'): Fields {
    const id = this.#id
    const content = status === 'completed' ? [this.#part(null)] : []
    switch (this.kind) {
      case 'message':
        return { id, content, role: 'assistant', status, type: 'message', phase: null }
      case 'reasoning': {
        const said = status === 'completed' ? content : null
        return {
          id,
          summary: [],
          type: 'reasoning',
          content: said,
          encrypted_content: null,
          status,
        }
      }
      case 'function_call': {
        const call_id = `call_${id.slice(PREFIX.function_call.length)}`
        const said = { arguments: this.#text, call_id, name: this.#name }
        return { ...said, type: 'function_call', id, status }
      }
    }
  }
}

/** The items of an answer as far as it has come; an answer that says nothing has none. */
export function itemsOf(outputs: readonly Output[], stem: string): Fields[] {
  const items: Item[] = []
  for (const { choice, count } of outputs) {
    for (const token of choice.tokens.slice(0, count)) {
      const kind = itemKind(token)
      if (kind === null) continue
      let item = items.at(-1)
      if (item?.kind !== kind || item.call !== token.call) {
        item = new Item(kind, token.call, items.length, stem, choice)
        items.push(item)
      }
      if (token.kind !== 'name') item.say(token.delta)
    }
  }
  return items.map((item) => item.whole())
}
