import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AffinityIndex } from '../../durable-objects/scheduling/affinity.ts'
import { chain, hashesOf } from './affinity-model.ts'

const OPTIONS = { capacity: 1_000 }
const MIB = 1024 * 1024

function noted(notes: readonly (readonly [prompt: string, instance: string])[]): AffinityIndex {
  const index = new AffinityIndex(OPTIONS)
  for (const [prompt, instance] of notes) index.note(chain(prompt), instance)
  return index
}

const notes = fc.array(
  fc.tuple(
    fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 12 }),
    fc.constantFrom('qwen-1', 'qwen-2', 'qwen-3', '千问-4'),
  ),
  { maxLength: 40 },
)

describe('a restart of the pool object does not forget what is held where (L20)', () => {
  it('restores any index from its dump, order of use included', () => {
    fc.assert(
      fc.property(notes, fc.integer({ min: 1, max: 20 }), (sent, left) => {
        const before = noted(sent)
        const after = AffinityIndex.restore(before.dump(), OPTIONS)
        expect(after.size).toBe(before.size)
        for (const [prompt] of sent) {
          expect(after.match(chain(prompt))).toEqual(before.match(chain(prompt)))
        }
        expect(after.dump()).toEqual(before.dump())

        // With room for less, what was used last is what is left.
        const smaller = AffinityIndex.restore(before.dump(), { capacity: left })
        expect(smaller.size).toBe(Math.min(left, before.size))
        const [last] = sent.slice(-1)
        if (last === undefined) return
        const [prompt, instance] = last
        const kept = Math.min(left, prompt.length)
        expect(smaller.match(chain(prompt)).get(instance) ?? 0).toBe(kept)
      }),
    )
  })

  it('makes an empty index of anything that is not a dump', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        expect(AffinityIndex.restore(bytes, OPTIONS).size).toBe(0)
      }),
    )
  })

  it('makes an empty index of a dump that was damaged or cut', () => {
    const dump = noted([
      ['abcdef', 'qwen-1'],
      ['abx', 'qwen-2'],
    ]).dump()
    fc.assert(
      fc.property(
        fc.nat({ max: dump.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (at, change) => {
          const damaged = Uint8Array.from(dump)
          damaged[at]! ^= change
          expect(AffinityIndex.restore(damaged, OPTIONS).size).toBe(0)
          expect(AffinityIndex.restore(dump.subarray(0, at), OPTIONS).size).toBe(0)
        },
      ),
    )
  })

  it('reads a dump wherever it stands in a larger buffer', () => {
    const dump = noted([['abc', 'qwen-1']]).dump()
    const shifted = Uint8Array.from([9, ...dump]).subarray(1)
    expect(AffinityIndex.restore(shifted, OPTIONS).size).toBe(3)
  })

  it('is at most 1 MiB: what was used last, and of each prompt from the first block on', () => {
    const capacity = 200_000
    const index = new AffinityIndex({ capacity })
    const length = (i: number) => (i % 2 === 0 ? 10 : 3)
    const prompt = (i: number) => hashesOf(Array.from({ length: length(i) }, (_, j) => i * 10 + j))
    for (let i = 0; i < 25_000; i++) index.note(prompt(i), `qwen-${i % 7}`)
    const dump = index.dump()
    expect(dump.byteLength).toBeLessThanOrEqual(MIB)
    const after = AffinityIndex.restore(dump, { capacity })
    expect(after.size).toBeGreaterThan((0.9 * MIB) / 8)
    const whole = Array.from(
      { length: 25_000 },
      (_, i) => after.match(prompt(i)).get(`qwen-${i % 7}`) === length(i),
    )
    expect(whole[0]).toBe(false)
    expect(whole.slice(whole.indexOf(true))).not.toContain(false)
  })
})
