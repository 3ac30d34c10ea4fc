import type { ErrorDetail } from './dialect.ts'

/**
 * The body of an error in OpenAI's shape. `code` is always a string.
 * @param error may be more than it says: a rejection on its way has a status, too
 */
export const errorBody = ({
  message,
  type,
  param,
  code,
}: ErrorDetail): { readonly error: ErrorDetail } => ({
  error: { message, type, param, code },
})
