import { describe, expect, it } from 'vitest'
import { Keepsake } from '../../durable-objects/pool/keepsake.ts'
import { Books } from './core-books.ts'
import { demand, instance } from './core-builders.ts'
import { granted } from './core-requests.ts'

/** Books whose tally is kept, in a storage that counts how often it is written. */
function kept() {
  const books = new Books()
  const compared = ['qwen']
  books.configure([instance()], 'least_inflight', { compared })
  const written: unknown[] = []
  const stored = new Map<string, unknown>()
  const kv = {
    get: (key: string) => stored.get(key),
    put: (key: string, value: unknown) => {
      stored.set(key, value)
      if (key === 'tally') written.push(value)
    },
  }
  const keepsake = new Keepsake(kv, () => books.clock.now)
  keepsake.keep(books.dispatcher)
  return { books, keepsake, written, keep: () => keepsake.keep(books.dispatcher) }
}

describe('what was counted', () => {
  it('is written down once, and again when something has been counted since', () => {
    const { books, keep, written } = kept()
    keep()
    expect(written).toHaveLength(1)
    const { lease } = granted(books)
    keep()
    books.release(lease, { ending: 'done' })
    keep()
    keep()
    expect(written).toHaveLength(3)
  })

  it('is written down where no lease tells of it: who was turned away, who found the queue full', () => {
    const { books, keep, keepsake } = kept()
    books.down.add('a')
    books.acquire(demand({ arm: { model: 'qwen', arm: 'canary' } }))
    keep()
    expect(keepsake.tally.arms).toMatchObject([{ arm: 'canary', failed: 1 }])
    books.dispatcher.tally.queue.full++
    keep()
    expect(keepsake.tally.queue).toMatchObject({ full: 1 })
  })
})
