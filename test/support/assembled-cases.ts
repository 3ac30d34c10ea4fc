/** Requests whose whole answers must be vLLM's own, by endpoint: the fields beside prompt and limit. */
import type { Fields } from './e2e-api.ts'

const parameters = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer' } },
}
const NAMES = ['get_weather', 'get_time']
const tools = NAMES.map((name) => ({ type: 'function', function: { name, parameters } }))
const schema = { type: 'object', properties: { name: { type: 'string' } } }

export const CHATS: Readonly<Record<string, Fields>> = {
  plain: {},
  'stream: false': { stream: false },
  'stream: null': { stream: null },
  'one token': { max_tokens: 1 },
  'as long as the model likes': { max_tokens: undefined },
  'several messages and parts': {
    messages: [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: [{ type: 'text', text: 'two parts: 你好 🚰' }] },
    ],
  },
  'a seed, many tokens of many bytes': { seed: 7, max_tokens: 400 },
  'parallel tools': { tools, max_tokens: undefined },
  'one tool': { tools, parallel_tool_calls: false, max_tokens: undefined },
  'tools cut by the limit': { tools, max_tokens: 6 },
  'a forced tool': {
    tools,
    tool_choice: { type: 'function', function: { name: 'get_time' } },
    max_tokens: undefined,
  },
  'any tool required': { tools, tool_choice: 'required', max_tokens: undefined },
  'no tool wanted': { tools, tool_choice: 'none' },
  'tools, several choices': { tools, n: 2, max_tokens: undefined },
  'a JSON schema': {
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
    max_tokens: undefined,
  },
  logprobs: { logprobs: true },
  'logprobs and top_logprobs': { logprobs: true, top_logprobs: 3 },
  'logprobs of tools': { tools, logprobs: true, top_logprobs: 1, max_tokens: undefined },
  'n = 3': { n: 3 },
  'n = 3 with logprobs': { n: 3, logprobs: true, top_logprobs: 2 },
  'token ids': { return_token_ids: true },
  'token ids of n = 2': { return_token_ids: true, n: 2 },
  'a stop string': { stop: 'a', max_tokens: 60 },
  'stop strings': { stop: ['xyzzy', ' lo', '.'], max_tokens: 60 },
  'a stop string kept in the text': { stop: ['a'], include_stop_str_in_output: true },
  'a stop string at once': {
    stop: ['A', 'B', 'K', 'S', 'L', 'M', 'T', 'R'].slice(0, 4),
    max_tokens: 40,
  },
  'thinking for once': { chat_template_kwargs: { enable_thinking: true }, max_tokens: 60 },
}

export const THINKING: Readonly<Record<string, Fields>> = {
  reasoning: { max_tokens: 60 },
  'reasoning cut by the limit': { max_tokens: 4 },
  'reasoning not shown': { include_reasoning: false, max_tokens: 60 },
  'reasoning, then tools': { tools, max_tokens: undefined },
  'reasoning with logprobs, n = 2': { logprobs: true, n: 2, max_tokens: 40 },
  'no thinking': { chat_template_kwargs: { enable_thinking: false } },
}

export const TEXTS: Readonly<Record<string, Fields>> = {
  plain: {},
  'the default limit': { max_tokens: undefined },
  'several prompts': { prompt: ['first', 'second one', 'third'] },
  'token ids as prompt': { prompt: [101, 102, 103] },
  'several prompts of token ids': { prompt: [[101, 102], [103]] },
  'several prompts, n = 2': { prompt: ['first', 'second'], n: 2 },
  logprobs: { logprobs: 2 },
  'logprobs 0': { logprobs: 0 },
  'logprobs, n = 2': { logprobs: 1, n: 2 },
  'token ids': { return_token_ids: true },
  'token ids, several prompts': { return_token_ids: true, prompt: ['a b c', 'd'] },
  'a stop string': { stop: ['a'], max_tokens: 60 },
}

const flatTools = NAMES.map((name) => ({ type: 'function', name, parameters }))

export const RESPONSE_CASES: Readonly<Record<string, Fields>> = {
  plain: {},
  'stream: false': { stream: false },
  'one token': { max_tokens: 1 },
  'as long as the model likes': { max_tokens: undefined },
  'items and instructions': {
    instructions: 'be brief',
    input: [{ role: 'user', content: [{ type: 'input_text', text: 'two parts: 你好 🚰' }] }],
  },
  'metadata that looks like a name': { metadata: { model: 'plain', response: 'model' } },
  'many tokens': { seed: 7, max_tokens: 300 },
  reasoning: { reasoning: { effort: 'high' }, max_tokens: 60 },
  'reasoning cut by the limit': { reasoning: { effort: 'high' }, max_tokens: 4 },
  'parallel tools': { tools: flatTools, max_tokens: undefined },
  'one tool': { tools: flatTools, parallel_tool_calls: false, max_tokens: undefined },
  'tools cut by the limit': { tools: flatTools, max_tokens: 6 },
  'a forced tool': {
    tools: flatTools,
    tool_choice: { type: 'function', name: 'get_time' },
    max_tokens: undefined,
  },
  'a JSON schema': {
    text: { format: { type: 'json_schema', name: 'x', schema } },
    max_tokens: undefined,
  },
}

const toolsOfMessages = NAMES.map((name) => ({ name, input_schema: parameters }))

export const MESSAGE_CASES: Readonly<Record<string, Fields>> = {
  plain: {},
  'stream: false': { stream: false },
  'one token': { max_tokens: 1 },
  'a system prompt and parts': {
    system: 'be brief',
    messages: [{ role: 'user', content: [{ type: 'text', text: 'two parts: 你好 🚰' }] }],
  },
  'many tokens': { max_tokens: 300 },
  thinking: { thinking: { type: 'enabled', budget_tokens: 1_024 }, max_tokens: 60 },
  'thinking cut by the limit': {
    thinking: { type: 'enabled', budget_tokens: 1_024 },
    max_tokens: 4,
  },
  'parallel tools': { tools: toolsOfMessages, max_tokens: 400 },
  'tools cut by the limit': { tools: toolsOfMessages, max_tokens: 6 },
  'a forced tool': {
    tools: toolsOfMessages,
    tool_choice: { type: 'tool', name: 'get_time' },
    max_tokens: 400,
  },
  'any tool': { tools: toolsOfMessages, tool_choice: { type: 'any' }, max_tokens: 400 },
  'a stop sequence': { stop_sequences: ['a'], max_tokens: 60 },
}

/** What a stream does not carry: the instance must be asked for no stream. */
export const ECHOES: Readonly<Record<string, Fields>> = {
  echo: { echo: true },
  'echo of several prompts': { echo: true, prompt: ['first of all', 'second'] },
  'echo alone': { echo: true, max_tokens: 0 },
  'echo with logprobs': { echo: true, logprobs: 2 },
  'echo with logprobs, several prompts, n = 2': {
    echo: true,
    logprobs: 1,
    n: 2,
    prompt: ['first of all', 'second'],
  },
  'echo alone with logprobs': { echo: true, max_tokens: 0, logprobs: 1 },
}
