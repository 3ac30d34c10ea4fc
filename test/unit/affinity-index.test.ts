import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AffinityIndex } from '../../durable-objects/scheduling/affinity.ts'
import { tokensOf } from '../../durable-objects/scheduling/blocks.ts'
import { chain, hashesOf, Naive } from './affinity-model.ts'

const index = (capacity = 1_000) => new AffinityIndex({ capacity })
const matched = (of: AffinityIndex, prompt: string) => Object.fromEntries(of.match(chain(prompt)))

describe('the affinity index', () => {
  it('tells for each instance how many of a prompt’s leading blocks it was given', () => {
    const subject = index()
    subject.note(chain('abcd'), 'qwen-1')
    subject.note(chain('abx'), 'qwen-2')
    expect(matched(subject, 'abcz')).toEqual({ 'qwen-1': 3, 'qwen-2': 2 })
  })

  it('knows nothing of a prompt whose first block is new, whatever comes behind', () => {
    const subject = index()
    subject.note(chain('abcd'), 'qwen-1')
    expect(matched(subject, 'zbcd')).toEqual({})
  })

  it('has no opinion on a prompt without a whole block', () => {
    const subject = index()
    subject.note(new Uint8Array(7), 'qwen-1')
    subject.note(chain('a'), 'qwen-1')
    expect([...subject.match(new Uint8Array(0))]).toEqual([])
    expect([...subject.match(new Uint8Array(7))]).toEqual([])
    expect(subject.size).toBe(1)
  })

  it('matches a prefix that was sent everywhere everywhere alike (L17)', () => {
    const subject = index()
    const everybody = Array.from({ length: 100 }, (_, i) => `qwen-${i}`)
    for (const instance of everybody) subject.note(chain(`sys${instance}`), instance)
    const matches = subject.match(chain('sys, and a new question'))
    expect([...matches.keys()].sort()).toEqual(everybody.sort())
    expect(new Set(matches.values())).toEqual(new Set([3]))
  })

  it('reads hashes wherever they stand in a larger buffer', () => {
    const subject = index()
    subject.note(chain('abc'), 'qwen-1')
    const shifted = Uint8Array.from([1, 2, 3, ...chain('abc')]).subarray(3)
    expect(subject.match(shifted).get('qwen-1')).toBe(3)
  })
})

describe('what an instance is taken to hold', () => {
  it('is nothing once it has restarted, and nothing of its slot passes on to another', () => {
    const subject = index()
    subject.note(chain('abc'), 'qwen-1')
    subject.note(chain('abc'), 'qwen-2')
    subject.forget('qwen-1')
    subject.note(chain('z'), 'qwen-3')
    expect(matched(subject, 'abc')).toEqual({ 'qwen-2': 3 })
    expect(subject.instances).toEqual(['qwen-2', 'qwen-3'])
    subject.forget('qwen-2')
    subject.forget('qwen-3')
    expect(subject.size).toBe(0)
  })

  it('is never more than its cache has room for: the least recently used prompt goes, tail first', () => {
    const subject = index()
    subject.limit('qwen-1', 5 * tokensOf(0))
    subject.note(chain('abc'), 'qwen-1')
    subject.note(chain('xyz'), 'qwen-1')
    expect(matched(subject, 'abc')).toEqual({ 'qwen-1': 2 })
    expect(matched(subject, 'xyz')).toEqual({ 'qwen-1': 3 })
    subject.note(chain('ab'), 'qwen-1') // used again
    subject.note(chain('12'), 'qwen-1')
    expect(matched(subject, 'abc')).toEqual({ 'qwen-1': 2 })
    expect(matched(subject, 'xyz')).toEqual({ 'qwen-1': 1 })
  })

  it('shrinks at once when the cache turns out smaller, and only for that instance', () => {
    const subject = index()
    for (const instance of ['qwen-1', 'qwen-2']) subject.note(chain('abcdefghij'), instance)
    subject.limit('qwen-1', 9 * tokensOf(0)) // the ninth block is twice as large
    expect(matched(subject, 'abcdefghij')).toEqual({ 'qwen-1': 8, 'qwen-2': 10 })
  })

  it('is the head of a prompt that is larger than its cache', () => {
    const subject = index()
    subject.limit('qwen-1', 3 * tokensOf(0))
    subject.note(chain('abcdef'), 'qwen-1')
    expect(matched(subject, 'abcdef')).toEqual({ 'qwen-1': 3 })
  })

  it('grows again without a limit', () => {
    const subject = index()
    subject.limit('qwen-1', 0)
    subject.limit('qwen-1', null)
    subject.note(chain('abcdef'), 'qwen-1')
    expect(matched(subject, 'abcdef')).toEqual({ 'qwen-1': 6 })
  })
})

describe('the cap of the index (L18)', () => {
  it('gives up what nobody has used for longest, whoever holds it', () => {
    const subject = index(6)
    subject.note(chain('abc'), 'qwen-1')
    subject.note(chain('xyz'), 'qwen-2')
    subject.note(chain('abc'), 'qwen-1')
    subject.note(chain('12'), 'qwen-3')
    expect(matched(subject, 'abc')).toEqual({ 'qwen-1': 3 })
    expect(matched(subject, 'xyz')).toEqual({ 'qwen-2': 1 })
    expect(matched(subject, '12')).toEqual({ 'qwen-3': 2 })
    expect(subject.size).toBe(6)
  })

  it('holds however much is sent, and keeps the latest', () => {
    const subject = index(5_000)
    for (let i = 0; i < 40_000; i++) subject.note(hashesOf([i, i + 1]), `qwen-${i % 3}`)
    expect(subject.size).toBe(5_000)
    expect(subject.match(hashesOf([39_999, 40_000])).get(`qwen-${39_999 % 3}`)).toBe(2)
    expect(subject.match(hashesOf([1, 2])).size).toBe(0)
  })
})

const instance = fc.integer({ min: 0, max: 40 }).map((i) => `qwen-${i}`)
const few = fc.integer({ min: 0, max: 2 }).map((i) => `qwen-${i}`)
const prompt = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 12 })
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ note: prompt, instance: few }) },
  { weight: 2, arbitrary: fc.record({ note: prompt, instance }) },
  { weight: 1, arbitrary: fc.record({ forget: fc.oneof(few, instance) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      limit: few,
      tokens: fc.option(fc.integer({ min: 0, max: 30 }).map((n) => n * tokensOf(0))),
    }),
  },
)

describe('any sequence of use', () => {
  it('gives what a plain list of holdings gives, and never more than was noted or fits', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: 1, max: 40 }),
        fc.array(prompt, { minLength: 1, maxLength: 4 }),
        (steps, capacity, asked) => {
          const subject = index(capacity)
          const model = new Naive(capacity)
          for (const taken of steps) {
            if ('note' in taken) {
              subject.note(chain(taken.note), taken.instance)
              model.note(taken.note, taken.instance)
            } else if ('forget' in taken) {
              subject.forget(taken.forget)
              model.forget(taken.forget)
            } else {
              subject.limit(taken.limit, taken.tokens)
              model.limit(taken.limit, taken.tokens)
            }
            expect(subject.size).toBeLessThanOrEqual(capacity)
            expect(subject.size).toBe(model.size)
          }
          for (const text of asked) expect(matched(subject, text)).toEqual(model.match(text))
        },
      ),
      { numRuns: 500 },
    )
  })
})
