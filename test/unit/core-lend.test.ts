import { describe, expect, it } from 'vitest'
import type { Bill } from '../../durable-objects/tenant/contract.ts'
import type { Reservation } from '../../worker/forward/order.ts'
import { settleUse, undo } from '../../worker/lend.ts'

function reservation() {
  const bills: Bill[] = []
  const it: Reservation = {
    warm: true,
    keeps: null,
    class: 'standard',
    allows: () => true,
    reserve: async () => undefined,
    watch: () => undefined,
    withdrawn: null,
    settle: (bill) => void bills.push(bill),
  }
  return { bills, it }
}

describe('what a socket comes to', () => {
  it('is a request, also where its client ended it by a frame that may not be sent', () => {
    const { bills, it } = reservation()
    settleUse(it, 'refused', 'whisper')
    expect(bills).toMatchObject([{ ending: 'done', model: 'whisper', counted: null }])
  })

  it('is nothing where no instance was ever reached', () => {
    const { bills, it } = reservation()
    undo(it)
    expect(bills).toMatchObject([{ ending: 'refused' }])
  })
})
