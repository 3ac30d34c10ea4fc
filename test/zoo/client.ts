/** What every animal of the zoo can be told to do, and what it has to show for it. */

/** Where a client is sent. */
export interface Door {
  /** Base URL of the router, without a slash at the end. */
  readonly url: string
  readonly apiKey: string
}

/** One thing to say. */
export interface Ask {
  readonly model: string
  /** Goes into the prompt, and is what the request is found by in a simulator's record. */
  readonly text: string
  readonly stream: boolean
  /** Most tokens of the answer; where the client has no such notion it is left out. */
  readonly tokens: number
  /** `tools`: offer {@link TOOLS}; `schema`: the answer must fit {@link SCHEMA}; `broken`: what vLLM refuses. */
  readonly wants?: 'tools' | 'schema' | 'broken'
  /** Of a stream, where its usage has to be asked for. */
  readonly usage?: boolean
  /** Leave early: a stream after its third piece, anything else after `patienceMs`. */
  readonly leaves?: boolean
  /** How long one waits who leaves before an answer in one piece, in milliseconds. */
  readonly patienceMs: number
}

/** What the client's user got to see. */
export interface Said {
  readonly text: string
  /** Pieces of text that came one by one; 1 for an answer in one piece. */
  readonly pieces: number
  readonly calls: readonly { readonly name: string; readonly args: unknown }[]
  readonly usage: { readonly prompt: number; readonly completion: number } | null
  /** The model's name in the answer; null where the client does not tell. */
  readonly model: string | null
  /** `x-request-id` of the answer or of the error; null where the client does not tell. */
  readonly requestId: string | null
  /** `x-penstock-instance` of the answer; null where the client does not tell. */
  readonly instance: string | null
  readonly error: SaidError | null
}

/** What was thrown, reported, or yielded as an error. */
export interface SaidError {
  /** Name of the client's class. */
  readonly name: string
  readonly status: number | null
  readonly code: string | null
  readonly message: string
}

export const NOTHING: Said = {
  text: '',
  pieces: 0,
  calls: [],
  usage: null,
  model: null,
  requestId: null,
  instance: null,
  error: null,
}

/** Pieces that a client reads that leaves a stream. */
export const ENOUGH = 3

/** Simulators call the first two of the tools that they are offered, in one answer. */
export const TOOLS = [
  {
    name: 'get_weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' } },
      required: ['city', 'days'],
      additionalProperties: false,
    },
  },
  {
    name: 'get_time',
    description: 'The time in a zone',
    parameters: {
      type: 'object',
      properties: { zone: { type: 'string' } },
      required: ['zone'],
      additionalProperties: false,
    },
  },
] as const

export const SCHEMA = {
  type: 'object',
  properties: {
    title: { type: 'string' },
    pages: { type: 'integer' },
    tags: { type: 'array', items: { type: 'string' } },
  },
  required: ['title', 'pages', 'tags'],
  additionalProperties: false,
} as const

/**
 * Tells what was thrown, whichever client and runtime it is of. The AI SDK has the error's own
 * fields in `data`, or throws the bare error of a stream's frame.
 */
export function saidError(thrown: unknown): SaidError {
  const error = Object(thrown) as Readonly<Record<string, unknown>>
  const status = error['status'] ?? error['statusCode']
  const data = error['data'] as { readonly error?: { readonly code?: unknown } } | undefined
  const code = error['code'] ?? data?.error?.code
  return {
    name: thrown instanceof Error ? thrown.constructor.name : 'Object',
    status: typeof status === 'number' ? status : null,
    code: typeof code === 'string' ? code : null,
    message: typeof error['message'] === 'string' ? error['message'] : JSON.stringify(thrown),
  }
}

/** Collects what a client says while it says it, so that an error finds what came before it. */
export class Hearing {
  #said: Said = NOTHING
  readonly #calls = new Map<string | number, { name: string; args: string }>()

  note(parts: Partial<Said>): void {
    this.#said = { ...this.#said, ...parts }
  }

  /** @returns whether it is enough for one who leaves early */
  piece(text: string): boolean {
    if (text !== '') this.note({ text: this.#said.text + text, pieces: this.#said.pieces + 1 })
    return this.#said.pieces >= ENOUGH
  }

  /** Part of a tool call: its name comes first and once, its arguments in pieces. */
  call(key: string | number, { name = '', args = '' }: { name?: string; args?: string }): void {
    const known = this.#calls.get(key) ?? { name: '', args: '' }
    this.#calls.set(key, { name: known.name + name, args: known.args + args })
  }

  headers(headers: Headers): void {
    this.note({
      requestId: headers.get('x-request-id'),
      instance: headers.get('x-penstock-instance'),
    })
  }

  /** Runs a client to its end, whatever that is. */
  static async of(listen: (heard: Hearing) => Promise<void>): Promise<Said> {
    const heard = new Hearing()
    try {
      await listen(heard)
    } catch (thrown) {
      const { headers, responseHeaders } = Object(thrown) as Readonly<Record<string, unknown>>
      if (headers instanceof Headers) heard.headers(headers)
      if (responseHeaders) heard.headers(new Headers(responseHeaders as Record<string, string>))
      heard.note({ error: saidError(thrown) })
    }
    return heard.said
  }

  get said(): Said {
    const calls = [...this.#calls.values()].map(({ name, args }) => ({ name, args: parsed(args) }))
    return { ...this.#said, calls }
  }
}

/** Arguments of a call that was cut short stay text. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}
