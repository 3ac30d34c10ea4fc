import { HASH_BYTES, MAX_BLOCKS } from './blocks.ts'
import type { Run } from './holdings.ts'

/**
 * A dump, little-endian: magic and version (4 + 1 bytes), checksum of all that follows (4), then
 * records, most recently used first:
 * - 0: the next holder's name (length, 1 byte; UTF-8). Holders are numbered as they come.
 * - n, 1 to 64: a run of n hashes: holder (2), index of the first block (1), the hashes (8 each).
 */
const MAGIC = 0x46415350
/** Raised when the format changes, or what a hash is made of: a dump of another version says nothing. */
const VERSION = 1
const HEAD = 9
const RUN_HEAD = 4
const NAME = 0

/** One run of a dump. */
export interface DumpedRun {
  readonly name: string
  readonly start: number
  readonly hashes: readonly number[]
}

/**
 * @param runs     most recently used first; those that do not fit are left out
 * @param maxBytes at least 9
 */
export function encodeDump(runs: Iterable<Run>, maxBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(maxBytes)
  const view = new DataView(bytes.buffer)
  const numbers = new Map<string, number>()
  let at = HEAD
  for (const { holder, start, hashes } of runs) {
    let number = numbers.get(holder.name)
    const name = number === undefined ? new TextEncoder().encode(holder.name) : NO_BYTES
    const named = number === undefined ? 2 + name.length : 0
    const needed = named + RUN_HEAD + (hashes.length / 2) * HASH_BYTES
    if (at + needed > maxBytes) break
    if (name.length > 0xff || numbers.size > 0xffff) continue
    if (number === undefined) {
      number = numbers.size
      numbers.set(holder.name, number)
      bytes.set([NAME, name.length, ...name], at)
      at += named
    }
    view.setUint8(at, hashes.length / 2)
    view.setUint16(at + 1, number, true)
    view.setUint8(at + 3, start)
    at += RUN_HEAD
    for (const half of hashes) {
      view.setUint32(at, half, true)
      at += HASH_BYTES / 2
    }
  }
  view.setUint32(0, MAGIC, true)
  view.setUint8(4, VERSION)
  view.setUint32(5, checksum(bytes.subarray(HEAD, at)), true)
  return bytes.slice(0, at)
}

/** @returns nothing at all where the bytes are not a whole dump of this version */
export function decodeDump(bytes: Uint8Array): DumpedRun[] {
  if (bytes.byteLength < HEAD) return []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0, true) !== MAGIC || view.getUint8(4) !== VERSION) return []
  if (view.getUint32(5, true) !== checksum(bytes.subarray(HEAD))) return []

  const names: string[] = []
  const runs: DumpedRun[] = []
  let at = HEAD
  while (at < bytes.byteLength) {
    const count = view.getUint8(at)
    if (count === NAME) {
      const end = at + 2 + (bytes[at + 1] ?? 0)
      names.push(new TextDecoder().decode(bytes.subarray(at + 2, end)))
      at = end
      continue
    }
    const end = at + RUN_HEAD + count * HASH_BYTES
    if (end > bytes.byteLength) return []
    const name = names[view.getUint16(at + 1, true)]
    const start = view.getUint8(at + 3)
    if (name === undefined || start + count > MAX_BLOCKS) return []
    const hashes: number[] = []
    for (at += RUN_HEAD; at < end; at += HASH_BYTES / 2) hashes.push(view.getUint32(at, true))
    runs.push({ name, start, hashes })
  }
  return runs
}

const NO_BYTES = new Uint8Array()

/** FNV-1a: finds accidents, not attacks; nobody but the object writes here. */
function checksum(bytes: Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193)
  return hash >>> 0
}
