import { array, assert, double, nat, option, property, record, tuple } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Pressure, type Strain } from '../../durable-objects/pool/pressure.ts'

const EASE: Strain = { queue: 0, kv: 0 }

function pressure() {
  let now = 0
  const it = new Pressure(() => now)
  return {
    look: (strain: Partial<Strain>) => it.look({ ...EASE, ...strain }),
    after: (ms: number) => void (now += ms),
  }
}

describe('how hard a pool is pressed', () => {
  it.each([
    { strain: { queue: 0, kv: null }, level: 0 },
    { strain: { queue: 0.09, kv: 0.84 }, level: 0 },
    { strain: { queue: 0.1 }, level: 1 },
    { strain: { kv: 0.85 }, level: 1 },
    { strain: { queue: 0.4 }, level: 2 },
    { strain: { queue: 0, kv: 0.98 }, level: 3 },
    { strain: { queue: 1 }, level: 3 },
  ])('is $level at $strain', ({ strain, level }) => {
    expect(pressure().look(strain)).toBe(level)
  })

  it('rises at once, and falls one step at a time', () => {
    const { look, after } = pressure()
    expect(look({ queue: 1 })).toBe(3)
    expect(look(EASE), 'not before it has held for a while').toBe(3)
    after(3_000)
    expect(look(EASE)).toBe(2)
    expect(look(EASE)).toBe(2)
    after(3_000)
    expect(look(EASE)).toBe(1)
    after(3_000)
    expect(look(EASE)).toBe(0)
  })

  it('does not flutter at a border', () => {
    const { look, after } = pressure()
    look({ queue: 0.1 })
    after(60_000)
    expect(look({ queue: 0.09 }), 'a little below is not at ease').toBe(1)
    expect(look({ queue: 0.07 })).toBe(0)
  })

  it('is never anything else than one of its steps, and ends when the strain does', () => {
    const strain = record({
      queue: double({ min: 0, max: 1, noNaN: true }),
      kv: option(double({ min: 0, max: 1, noNaN: true })),
    })
    assert(
      property(array(tuple(strain, nat(10_000))), (story) => {
        const { look, after } = pressure()
        for (const [strained, ms] of story) {
          after(ms)
          expect([0, 1, 2, 3]).toContain(look(strained))
        }
        for (let step = 0; step < 3; step++) {
          after(3_000)
          look(EASE)
        }
        expect(look(EASE)).toBe(0)
      }),
    )
  })
})
