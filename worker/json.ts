/** A body's or frame's JSON object, as far as anybody has looked. */
export type Json = Readonly<Record<string, unknown>>
