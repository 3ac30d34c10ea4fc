/** Whether a call failed because the object is still of the release before: as the runtime says it. */
export const isUnknownMethod = (cause: unknown): boolean =>
  cause instanceof TypeError && cause.message.includes('does not implement')
