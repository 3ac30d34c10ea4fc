/** Rendezvous hashing: who keeps whom, so that only ~1/n of the keys move when an instance joins or leaves. */

const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/**
 * 32-bit FNV-1a of a text's UTF-16 units. Not for secrets: anyone can find collisions, which would
 * cost them a place beside strangers and nothing else.
 * @param seed the state to go on from
 */
export function hashOf(text: string, seed = FNV_OFFSET): number {
  let hash = seed
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME)
  return hash >>> 0
}

/** MurmurHash3's last step: every bit of the input stirs every bit of the output. */
export function stirred(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * How much a key is drawn to an instance: between 0 and 1, its own for each pair, so each key ranks
 * all instances, and one that joins or leaves changes nothing between the others. The highest gets
 * the key; at weight 2 that is twice as often as at weight 1 (Efraimidis and Spirakis: u^(1/weight)).
 * @param keyHash {@link hashOf} the key
 */
export const draw = (keyHash: number, instance: string, weight: number): number =>
  ((stirred(hashOf(instance, keyHash)) + 0.5) / 2 ** 32) ** (1 / weight)
