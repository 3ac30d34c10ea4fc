import * as fc from 'fast-check'
import { describe, it } from 'vitest'
import type { Bill } from '../../durable-objects/tenant/contract.ts'
import { Model } from './core-tenant-model.ts'
import type { Step } from './core-tenant-model.ts'
import { bill } from './core-tenant-world.ts'

const count = fc.integer({ min: 0, max: 120 })
const anyBill: fc.Arbitrary<Bill> = fc.oneof(
  fc
    .record({ in: count, out: count, counted: fc.constantFrom('reported', 'ids', 'estimate') })
    .map(({ in: promptTokens, out: completionTokens, counted }) =>
      bill({ promptTokens, completionTokens, counted: counted as Bill['counted'] }),
    ),
  fc.constantFrom('refused', 'lost', 'client-left', 'upstream-failed', 'timed-out').map((ending) =>
    bill({
      ending: ending as Bill['ending'],
      promptTokens: null,
      completionTokens: null,
      counted: null,
    }),
  ),
)
const wait = fc.oneof(
  fc.integer({ min: 0, max: 2_000 }),
  fc.constantFrom(99, 100, 10_000, 59_900, 60_000, 60_100),
)
/** A machine's clock that is put right. */
const jump = fc.constantFrom(-7_200_000, -61_000, -3_000, -1, 3_600_000)
const which = fc.nat(10)

const askStep: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('ask' as const),
  keyId: fc.constantFrom('k' as const, 'small' as const),
  in: count,
  out: count,
})
const waitStep: fc.Arbitrary<Step> = wait.map((ms) => ({ do: 'wait', ms }))
const endStep: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('end' as const),
  which,
  bill: anyBill,
})
/** After a reset, a Worker says that its request still runs, or that it has ended. */
const againStep: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('again' as const),
  which,
  bill: fc.option(anyBill, { nil: null }),
})
const stepsOf = (...others: readonly fc.Arbitrary<Step>[]) =>
  fc.array(fc.oneof(askStep, askStep, askStep, waitStep, endStep, endStep, ...others), {
    maxLength: 80,
  })

const backAndForth: fc.Arbitrary<Step> = jump.map((ms) => ({ do: 'wait', ms }))
const just = (...steps: readonly ('sweep' | 'reset' | 'crash' | 'checkpoint')[]) =>
  fc.constantFrom(...steps).map((step): Step => ({ do: step }))

/** The model compares after each step. */
function expectSound(model: Model, steps: readonly Step[]): void {
  for (const step of steps) model.do(step)
}

describe('any number of requests, endings and accidents', () => {
  it('never lets in more than a limit, by clocks that jump and over resets that forget nothing', () => {
    fc.assert(
      fc.property(stepsOf(againStep, backAndForth, just('sweep', 'reset')), (steps) => {
        const model = new Model({ exact: true })
        expectSound(model, steps)
      }),
      { numRuns: 400 },
    )
  })

  it('leave no reservation, no place and no count behind, whatever a reset has forgotten (L32)', () => {
    fc.assert(
      fc.property(
        stepsOf(againStep, backAndForth, just('sweep', 'crash', 'checkpoint')),
        (steps) => {
          const model = new Model({ exact: false })
          expectSound(model, steps)
          model.expectNothingLeft()
        },
      ),
      { numRuns: 400 },
    )
  })
})
