import { describe, expect, it } from 'vitest'
import { tokensOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import type { Books } from './core-books.ts'
import { instance } from './core-builders.ts'
import { booksOf, granted, idOf, prefixOf, work } from './core-requests.ts'

describe('affinity', () => {
  const warm = (): { books: Books; configure: (ids: readonly string[]) => void } =>
    booksOf(['a', 'b', 'c'], { policy: 'prefix', named: { slots: 8 } })

  it('brings a prompt back to where its beginning was sent, and says how much is expected', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 700, prefix: prefixOf(1, 8) }) }
    const first = granted(books, prompt)
    expect(first).toMatchObject({ reason: 'prefix', expectedHitTokens: 0 })
    books.release(first.lease, { ending: 'done' })
    for (let i = 2; i < 5; i++) {
      const other = granted(books, { work: work({ prefix: prefixOf(i, 8) }) })
      books.release(other.lease, { ending: 'done' })
    }

    const longer = new Uint8Array([...prefixOf(1, 8), ...prefixOf(9, 2)])
    const next = granted(books, { work: work({ promptTokens: 900, prefix: longer }) })
    expect(idOf(next)).toBe(idOf(first))
    // And half of the next block, and an answer, since nobody else has had this conversation.
    expect(next.expectedHitTokens).toBe(tokensThrough(8) + tokensOf(8) / 2 + 40)
  })

  it('expects no more than the prompt is taken for', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 100, prefix: prefixOf(1, 8) }) }
    books.release(granted(books, prompt).lease, { ending: 'done' })
    expect(granted(books, prompt).expectedHitTokens).toBe(100)
  })

  it('expects nothing of a prompt too short for a block', () => {
    const { books } = warm()
    for (let i = 0; i < 3; i++) expect(granted(books, { work: work() }).expectedHitTokens).toBe(0)
    expect(books.dispatcher.chooser.affinity.size).toBe(0)
  })

  it('compares what it expected with what the engine found (L19)', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    const counts = { promptTokens: 600, completionTokens: 5, counted: 'reported' } as const
    books.release(granted(books, prompt).lease, { ending: 'done', ...counts, cachedTokens: 0 })
    books.release(granted(books, prompt).lease, { ending: 'done', ...counts, cachedTokens: 480 })
    expect(books.dispatcher.tally.hits.totals).toMatchObject({
      compared: 2,
      expected: 600, // no more than the prompt has
      actual: 480,
      prompt: 1_200,
    })
  })

  it('does not outlive the process: one that moved has an empty cache', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    const first = granted(books, prompt)
    books.release(first.lease, { ending: 'done' })
    const elsewhere = ['a', 'b', 'c'].map((id) =>
      instance({ instance: id, slots: 8, process: `elsewhere ${id}` }),
    )
    books.configure(elsewhere, 'prefix')
    expect(books.dispatcher.chooser.affinity.size).toBe(0)
    expect(granted(books, prompt).expectedHitTokens).toBe(0)
  })

  it('stays where only slots or weights change', () => {
    const { books } = warm()
    const prompt = { work: work({ promptTokens: 600, prefix: prefixOf(1) }) }
    books.release(granted(books, prompt).lease, { ending: 'done' })
    books.configure(
      ['a', 'b', 'c'].map((id) => instance({ instance: id, slots: 3, weight: 2 })),
      'prefix',
    )
    expect(granted(books, prompt).expectedHitTokens).toBeGreaterThanOrEqual(tokensThrough(8))
  })
})
