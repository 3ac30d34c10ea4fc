import { isObject, type Json } from '../json.ts'

/**
 * Whether a request goes on with a conversation: the model has said something in it already. Chat and
 * Anthropic's messages have its turns in `messages`, the Responses API among the items of `input`.
 */
export const isUnderWay = ({ messages, input }: Json): boolean =>
  hasAnswer(messages) || hasAnswer(input)

const hasAnswer = (turns: unknown): boolean => Array.isArray(turns) && turns.some(isAnswer)

const isAnswer = (turn: unknown): boolean =>
  isObject(turn) &&
  (turn['role'] === 'assistant' || (typeof turn['type'] === 'string' && MADE.test(turn['type'])))

/** Items of the Responses API that a model has made, and what its calls gave: `function_call_output`. */
const MADE = /^reasoning$|_call(?:_output)?$/
