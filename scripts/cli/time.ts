/** `2026-11-23T14:05:09Z`. @param unixMs Unix milliseconds */
export const isoSeconds = (unixMs: number): string =>
  new Date(unixMs).toISOString().replace(/\.\d+Z$/, 'Z')
