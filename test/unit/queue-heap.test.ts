import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Heap } from '../../durable-objects/pool/heap.ts'

describe('Heap', () => {
  it('has the least first, whatever goes out and however far the first goes back', () => {
    const steps = fc.array(fc.option(fc.nat(200)), { maxLength: 60 })
    fc.assert(
      fc.property(fc.array(fc.nat(100), { maxLength: 40 }), steps, (values, script) => {
        const items = values.map((value) => ({ value }))
        const heap = new Heap(items, (one, other) => one.value < other.value)
        for (const by of script) {
          items.sort((one, other) => one.value - other.value)
          expect(heap.first?.value).toBe(items[0]?.value)
          if (by === null) {
            items.splice(items.indexOf(heap.first!), 1)
            heap.dropFirst()
          } else if (heap.first) {
            heap.first.value += by
            heap.settleFirst()
          }
        }
      }),
    )
  })
})
