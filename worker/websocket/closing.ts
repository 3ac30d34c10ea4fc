/** Why a WebSocket is over: RFC 6455 §7.4. */
export interface Closing {
  readonly code: number
  readonly reason: string
}

/** Codes that say what happened to a connection, and must never be sent on one. */
const NO_CODE = 1005
const ABRUPT = 1006
const TLS_FAILED = 1015

/** As a connection ends that simply breaks. */
export const LOST: Closing = { code: ABRUPT, reason: '' }

/** The longest reason that fits into a close frame, in bytes of UTF-8. */
const REASON_BYTES = 123

/** Whether the other side closed in good order, or was just gone. */
export const isAbrupt = ({ code }: Closing): boolean => code === ABRUPT || code === TLS_FAILED

/**
 * What one side's close becomes on the other side's connection.
 * @param lost what is said there of a connection that broke, or closed with a code that means nothing
 */
export function carried(closing: Closing, lost: Closing): Closing {
  if (closing.code === NO_CODE) return { code: 1000, reason: '' }
  return isSendable(closing.code) ? closing : lost
}

function isSendable(code: number): boolean {
  const standard = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014)
  return standard || (code >= 3000 && code <= 4999)
}

/** As much of a reason as a close frame can carry, with no character cut in two. */
export function fitting(reason: string): string {
  const bytes = new TextEncoder().encode(reason)
  if (bytes.byteLength <= REASON_BYTES) return reason
  let end = REASON_BYTES
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end-- // a continuation byte: its character began before
  return new TextDecoder().decode(bytes.subarray(0, end))
}
