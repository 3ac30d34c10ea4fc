import { describe, expect, it } from 'vitest'
import { Lanes } from '../../durable-objects/health/lanes.ts'

describe('Lanes', () => {
  it('survive work that fails, whose failure is its own', async () => {
    const lanes = new Lanes(1)
    const over = await Promise.allSettled([
      lanes.run(() => Promise.reject(new Error('storage'))),
      lanes.run(() => {
        throw new Error('at once')
      }),
      lanes.run(() => Promise.resolve('done')),
    ])
    expect(over).toEqual([
      { status: 'rejected', reason: new Error('storage') },
      { status: 'rejected', reason: new Error('at once') },
      { status: 'fulfilled', value: 'done' },
    ])
    await expect(lanes.run(() => Promise.resolve('later'))).resolves.toBe('later')
  })
})
