/** The 400s and 404s a request can earn, worded as vLLM words them. */
import { isObject, listAt, numberAt, objectAt, type Body } from './body.ts'
import type { Api } from './endpoints.ts'
import { limitFieldsOf, limitOf } from './limits.ts'
import { errorReply, type Reply } from './reply.ts'
import type { Prompt } from './prompt.ts'

interface Complaint {
  readonly type: string
  readonly field: string
  readonly msg: string
  readonly input: unknown
}

/** Python's `repr` of plain values, containers summed up as the server sums them up. */
function python(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (Array.isArray(value)) return `'<list of ${value.length} items>'`
  if (isObject(value)) return `'<dict of ${Object.keys(value).length} items>'`
  return value === null || value === undefined ? 'None' : JSON.stringify(value)
}

const listed = (lines: readonly string[], param: string | null): Reply => {
  const noun = lines.length === 1 ? 'error' : 'errors'
  const text = lines.slice(0, 10).map((line) => `\n  ${line}`)
  return errorReply(
    `${lines.length} validation ${noun}:${text.join('')}`,
    'Bad Request',
    param,
    400,
  )
}

/** A body that is not `application/json`. */
export const unsupportedMediaType = (): Reply =>
  listed(["Unsupported Media Type: Only 'application/json' is allowed"], null)

/** A body that does not parse. @param at where in the text */
export const invalidJson = (at: number): Reply =>
  listed(
    [
      `{'type': 'json_invalid', 'loc': 'body.${at}', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}`,
    ],
    `body.${at}`,
  )

const REQUIRED: Readonly<Record<Api, readonly string[]>> = {
  chat: ['messages'],
  completion: [],
  messages: ['model', 'messages', 'max_tokens'],
  responses: ['input'],
  embeddings: ['input'],
  'count-tokens': [],
  rerank: ['query', 'documents'],
  score: [],
  transcription: ['file'],
  translation: ['file'],
}

const NUMBERS = ['temperature', 'top_p', 'frequency_penalty', 'presence_penalty']
const INTEGERS = ['n', 'seed', 'top_k']
/** Any of these pairs says what is to be compared. */
const SCORED = [
  ['queries', 'documents'],
  ['queries', 'items'],
  ['data_1', 'data_2'],
  ['text_1', 'text_2'],
] as const

/** The two sides of a score request; null where it names none. */
export function scoredPair(body: Body): readonly [unknown, unknown] | null {
  const pair = SCORED.find(([a, b]) => body[a] !== undefined && body[b] !== undefined)
  return pair === undefined ? null : [body[pair[0]], body[pair[1]]]
}

const BOOLEANS = ['stream', 'echo', 'ignore_eos', 'return_token_ids', 'stream_include_usage']

function fieldComplaints(api: Api, body: Body): Complaint[] {
  const found: Complaint[] = []
  for (const field of REQUIRED[api]) {
    if (body[field] === undefined) {
      found.push({ type: 'missing', field, msg: 'Field required', input: body })
    }
  }
  if (api === 'score' && scoredPair(body) === null) {
    for (const field of ['text_1', 'text_2']) {
      found.push({ type: 'missing', field, msg: 'Field required', input: body })
    }
  }
  const messages = body['messages']
  if (
    (api === 'chat' || api === 'messages') &&
    messages !== undefined &&
    !Array.isArray(messages)
  ) {
    const msg = 'Input should be a valid list'
    found.push({ type: 'list_type', field: 'messages', msg, input: messages })
  }
  const wrong = (field: string, type: string, fits: (value: unknown) => boolean, msg: string) => {
    const input = body[field]
    if (input === undefined || input === null || fits(input)) return
    found.push({ type, field, msg, input })
  }
  const numeric = (value: unknown): boolean =>
    typeof value === 'number' || (typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value))
  const unparsable = ', unable to parse string as a'
  for (const field of [...limitFieldsOf(api), ...INTEGERS]) {
    wrong(field, 'int_parsing', numeric, `Input should be a valid integer${unparsable}n integer`)
  }
  for (const field of NUMBERS) {
    wrong(field, 'float_parsing', numeric, `Input should be a valid number${unparsable} number`)
  }
  for (const field of BOOLEANS) {
    const msg = 'Input should be a valid boolean, unable to interpret input'
    wrong(field, 'bool_parsing', (value) => typeof value === 'boolean', msg)
  }
  return found
}

/** Rules between fields. Each message, then the parameter it blames. */
function crossField(api: Api, body: Body): readonly [string, string | null] | null {
  const streams = body['stream'] === true
  const prompt = body['prompt'] ?? ''
  const isEmpty = prompt === '' || (Array.isArray(prompt) && prompt.length === 0)
  if (api === 'completion' && isEmpty) {
    return ['Either prompt or prompt_embeds must be provided and non-empty.', 'prompt']
  }
  if (body['stream_options'] && !streams) {
    return ['Stream options can only be defined when `stream=True`.', 'stream_options']
  }
  if (body['stream_include_usage'] === true && !streams) {
    return ['Stream options can only be defined when `stream=True`.', 'stream_include_usage']
  }
  const asked = numberAt(body, 'prompt_logprobs')
  if (asked !== null && streams && asked !== 0) {
    return ['`prompt_logprobs` are not available when `stream=True`.', 'prompt_logprobs']
  }
  if ((numberAt(body, 'top_logprobs') ?? 0) > 0 && body['logprobs'] !== true) {
    return ['when using `top_logprobs`, `logprobs` must be set to true.', 'top_logprobs']
  }
  const salt = body['cache_salt']
  if (salt === '') {
    return ["Parameter 'cache_salt' must be a non-empty string if provided.", 'cache_salt']
  }
  if (typeof salt === 'string' && (salt.length > 128 || /[@/\\\0]/.test(salt))) {
    const rule = "must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL."
    return [`Parameter 'cache_salt' ${rule}`, 'cache_salt']
  }
  return api === 'chat' ? toolRules(body) : null
}

function toolRules(body: Body): readonly [string, string | null] | null {
  const tools = body['tools']
  if (Array.isArray(tools) && tools.length === 0) {
    const advice = 'Either provide at least one tool or omit the field entirely.'
    return [`\`tools\` must not be an empty array. ${advice}`, 'tools']
  }
  const choice = body['tool_choice'] ?? 'none'
  if (choice === 'none') return null
  if (!Array.isArray(tools))
    return ['When using `tool_choice`, `tools` must be set.', 'tool_choice']
  if (isObject(choice)) {
    const name = objectAt(choice, 'function')['name']
    const known = tools.some(
      (tool) => isObject(tool) && objectAt(tool, 'function')['name'] === name,
    )
    if (known) return null
    const rule = 'does not match any of the specified `tools`'
    return [`The tool specified in \`tool_choice\` ${rule}`, 'tool_choice']
  }
  if (choice === 'auto' || choice === 'required') return null
  const allowed = 'Only named tools, "none", "auto" or "required" are supported.'
  return [`Invalid value for \`tool_choice\`: ${JSON.stringify(choice)}! ${allowed}`, 'tool_choice']
}

/** What is wrong with a body before anything is tokenised; null when nothing is. */
export function complain(api: Api, body: Body): Reply | null {
  const fields = fieldComplaints(api, body)
  if (fields.length > 0) {
    const lines = fields.map(
      ({ type, field, msg, input }) =>
        `{'type': '${type}', 'loc': 'body.${field}', 'msg': '${msg}', 'input': ${python(input)}}`,
    )
    return listed(lines, `body.${fields[0]?.field ?? ''}`)
  }
  const broken = crossField(api, body)
  if (broken === null) return null
  const [message, param] = broken
  const error = `${message} (parameter=${param ?? 'None'})`
  const line = `{'type': 'value_error', 'loc': 'body', 'msg': 'Value error, ${error}', 'input': ${python(body)}, 'ctx': {'error': '${error}'}}`
  return listed([line], param)
}

/** A model nobody serves here. */
export const unknownModel = (model: string, aliases: readonly string[]): Reply =>
  errorReply(
    `The model \`${model}\` does not exist. Valid aliases: ${aliases.join(', ')}.`,
    'NotFoundError',
    'model',
    404,
  )

/** Longest token of the vocabulary in characters, as vLLM bounds a prompt before tokenising it. */
const LONGEST_TOKEN = 27

/** Limits that depend on the prompt's length; null when it fits. */
export function tooLong(
  api: Api,
  body: Body,
  prompts: readonly Prompt[],
  maxModelLen: number,
): Reply | null {
  const refuse = (message: string, param: string, value: number): Reply =>
    errorReply(`${message} (parameter=${param}, value=${value})`, 'BadRequestError', param, 400)
  const asked = limitOf(body, api)
  const longest = `This model's maximum context length is ${maxModelLen} tokens. However, `
  const advice = 'Please reduce the length of the input prompt'
  if (asked !== null && asked < 1) {
    return refuse(`max_tokens must be at least 1, got ${asked}.`, 'max_tokens', asked)
  }
  if (asked !== null && asked > maxModelLen) {
    const rule = `cannot be greater than max_model_len=${maxModelLen}. Please request fewer output tokens.`
    return refuse(`max_tokens=${asked} ${rule}`, 'max_tokens', asked)
  }
  const characters = maxModelLen * LONGEST_TOKEN
  for (const { text, ids } of prompts) {
    const tokens = ids.length
    if (text.length > characters) {
      const bound = `(more than ${characters} characters, which is the upper bound for ${maxModelLen} input tokens)`
      const said = `your prompt contains ${text.length} characters ${bound}. ${advice}.`
      return refuse(longest + said, 'input_text', text.length)
    }
    if (tokens >= maxModelLen) {
      const said = `your prompt contains at least ${maxModelLen + 1} input tokens. ${advice}.`
      return refuse(longest + said, 'input_tokens', maxModelLen + 1)
    }
    if (asked !== null && tokens + asked > maxModelLen) {
      const least = maxModelLen - asked + 1
      const said = `you requested ${asked} output tokens and your prompt contains at least ${least} input tokens, for a total of at least ${maxModelLen + 1} tokens. ${advice} or the number of requested output tokens.`
      return refuse(longest + said, 'input_tokens', least)
    }
  }
  const n = numberAt(body, 'n') ?? 1
  if (n < 1 || n > 16_384) {
    const rule = n < 1 ? 'at least 1' : 'at most 16384'
    return refuse(`n must be ${rule}, got ${n}.`, 'n', n)
  }
  return listAt(body, 'stop').length > 4
    ? refuse('stop must have at most 4 entries.', 'stop', listAt(body, 'stop').length)
    : null
}
