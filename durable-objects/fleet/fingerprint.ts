/** A short name for what a value says, the same wherever and in whatever order it was written. */

const FNV_OFFSET = 0xcbf29ce484222325n
const FNV_PRIME = 0x100000001b3n

/**
 * 64-bit FNV-1a of a text's UTF-8 bytes, as 16 hexadecimal digits. Not for secrets: two texts with one
 * hash can be made on purpose.
 */
export function fnv1a64(text: string): string {
  let hash = FNV_OFFSET
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME)
  }
  return hash.toString(16).padStart(16, '0')
}

/** JSON with every map's keys in one order: what is the same reads the same. */
export const canonicalJson = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )

/** Equal for equal data, whatever the order of keys; made at once, so that it needs no `await`. */
export const fingerprint = (value: unknown): string => fnv1a64(canonicalJson(value))
