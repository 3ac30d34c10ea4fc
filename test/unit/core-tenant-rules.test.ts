import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { countedOf } from '../../durable-objects/tenant/bills.ts'
import type { Bill } from '../../durable-objects/tenant/contract.ts'
import { entitlementOf, planOf } from '../../durable-objects/tenant/entitlement.ts'
import { KeyBook } from '../../durable-objects/tenant/key-book.ts'
import { allowsModel, commonModels } from '../../durable-objects/tenant/model-globs.ts'
import { addressTest, isNetwork } from '../../durable-objects/tenant/networks.ts'
import { shareUnder, underPressure } from '../../durable-objects/tenant/pressure.ts'
import { costOf } from '../../durable-objects/tenant/prices.ts'
import { bill, key, plan, profile, terms } from './core-tenant-world.ts'

describe('a list of models', () => {
  it.each([
    { models: ['*'], model: 'qwen', allowed: true },
    { models: [], model: 'qwen', allowed: false },
    { models: ['qwen'], model: 'qwen', allowed: true },
    { models: ['qwen'], model: 'qwen-long', allowed: false },
    { models: ['qwen'], model: 'Qwen', allowed: false },
    { models: ['claude-*'], model: 'claude-', allowed: true },
    { models: ['claude-*'], model: 'my-claude-3', allowed: false },
    { models: ['*-chat'], model: 'qwen-chat', allowed: true },
    { models: ['*-chat'], model: 'qwen-chat-2', allowed: false },
    { models: ['a*b*c'], model: 'a-b-b-c', allowed: true },
    { models: ['a*a'], model: 'a', allowed: false },
    { models: ['a*bc*bc'], model: 'abc', allowed: false },
    { models: ['q.en'], model: 'qwen', allowed: false },
  ])('$models: $model is allowed: $allowed', ({ models, model, allowed }) => {
    expect(allowsModel(models, model)).toBe(allowed)
  })

  const glob = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 5 })
  const globs = fc.array(glob, { maxLength: 3 })
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 6 })

  it('means the same as its regular expression', () => {
    fc.assert(
      fc.property(globs, name, (models, model) => {
        const expected = models.some((glob) =>
          new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(model),
        )
        expect(allowsModel(models, model)).toBe(expected)
      }),
      { numRuns: 2_000 },
    )
  })

  it('has in common with another exactly what both allow', () => {
    fc.assert(
      fc.property(globs, globs, name, (one, other, model) => {
        const both = allowsModel(one, model) && allowsModel(other, model)
        const common = allowsModel(commonModels(one, other), model)
        const simple = [...one, ...other].every((entry) => entry.split('*').length <= 2)
        // With more stars it may leave something out, but adds nothing.
        expect(common).toBe(simple ? both : common && both)
      }),
      { numRuns: 5_000 },
    )
  })

  it('has no more in common with another than there is room for', () => {
    const starry = (letters: string) => `*${letters.split('').join('*')}*`
    expect(commonModels([starry('abcdefgh')], [starry('ijklmnop')])).toEqual([])
    expect(commonModels([starry('abcdefgh')], [starry('ace'), 'abcdefgh', 'a'])).toEqual([
      starry('abcdefgh'),
      'abcdefgh',
    ])
  })

  it('takes no longer for a glob made to be slow', () => {
    const glob = `${'a*'.repeat(60)}b`
    expect(allowsModel([glob], 'a'.repeat(128))).toBe(false)
  })
})

describe('a network', () => {
  it.each([
    { networks: ['10.0.0.0/8'], address: '10.1.2.3', allowed: true },
    { networks: ['10.0.0.0/8'], address: '11.1.2.3', allowed: false },
    { networks: ['10.0.0.0/8'], address: '::ffff:10.1.2.3', allowed: true },
    { networks: ['::ffff:10.0.0.0/104'], address: '10.1.2.3', allowed: true },
    { networks: ['::ffff:10.0.0.0/104'], address: '11.1.2.3', allowed: false },
    { networks: ['1.2.3.4'], address: '1.2.3.4', allowed: true },
    { networks: ['1.2.3.4'], address: '1.2.3.5', allowed: false },
    { networks: ['2001:db8::/32'], address: '2001:db8:1::1', allowed: true },
    { networks: ['2001:db8::/32'], address: '2001:db9::1', allowed: false },
    { networks: ['2001:db8::1'], address: '2001:0db8:0:0::1', allowed: true },
    { networks: ['::/0'], address: '10.0.0.1', allowed: false },
    { networks: ['0.0.0.0/0', '::/0'], address: '', allowed: false },
    { networks: ['0.0.0.0/0'], address: '010.0.0.1', allowed: false },
    { networks: ['nonsense', '1.2.3.4/33'], address: '1.2.3.4', allowed: false },
    { networks: [], address: '1.2.3.4', allowed: false },
  ])('$networks holds $address: $allowed', ({ networks, address, allowed }) => {
    expect(addressTest(networks)(address)).toBe(allowed)
  })

  it('is asked about one address after another', () => {
    const allows = addressTest(['10.0.0.0/8'])
    const asked = ['10.0.0.1', '10.0.0.1', '11.0.0.1', '11.0.0.1', '10.0.0.1', '']
    expect(asked.map(allows)).toEqual([true, true, false, false, true, false])
  })

  it.each([
    ['10.0.0.0/8', true],
    ['2001:db8::/32', true],
    ['::1', true],
    ['1.2.3.4/33', false],
    ['1.2.3.4/', false],
    ['1.2.3.4/-1', false],
    ['::ffff:1.2.3.4/90', false],
    ['10', false],
    ['0x7f000001', false],
    ['example.com', false],
  ])('%s is one: %s', (text, valid) => {
    expect(isNetwork(text)).toBe(valid)
  })
})

describe('a key', () => {
  const book = new KeyBook()
  book.put(key('good', { expires: 2_000 }))
  book.put(key('revoked', { revoked: 500 }))

  it.each([
    { id: 'good', hash: 'hash of good', now: 1_999, valid: true, why: 'it is' },
    { id: 'good', hash: 'hash of good', now: 2_000, valid: false, why: 'it has expired' },
    { id: 'good', hash: 'hash of gooD', now: 1_000, valid: false, why: 'it is another secret' },
    { id: 'good', hash: '', now: 1_000, valid: false, why: 'it says nothing' },
    { id: 'revoked', hash: 'hash of revoked', now: 1_000, valid: false, why: 'it was revoked' },
    { id: 'other', hash: 'hash of other', now: 1_000, valid: false, why: 'there is none' },
  ])('$id is valid: $valid, as $why', ({ id, hash, now, valid }) => {
    expect(book.valid(id, hash, now) !== undefined).toBe(valid)
  })
})

describe('pressure', () => {
  it('takes from the lowest class first, and from who pays most nothing', () => {
    const shares = (serviceClass: Parameters<typeof shareUnder>[1]) =>
      [0, 1, 2, 3].map((pressure) => shareUnder(pressure, serviceClass))
    expect(shares('interactive')).toEqual([1, 1, 1, 1])
    expect(shares('standard')).toEqual([1, 1, 0.75, 0.5])
    expect(shares('batch')).toEqual([1, 0.5, 0.25, 0.1])
  })

  it('is within its steps, whatever is said', () => {
    expect([-1, 7, 2.9, NaN].map((said) => shareUnder(said, 'batch'))).toEqual([1, 0.1, 0.25, 1])
  })

  it('is that of a standard tenant for a class that only a later release knows', () => {
    const later = 'urgent' as Parameters<typeof shareUnder>[1]
    expect([0, 3].map((pressure) => shareUnder(pressure, later))).toEqual([1, 0.5])
  })

  it('leaves at least one of a limit that allows any', () => {
    expect(underPressure(60, 0.1)).toBe(6)
    expect(underPressure(5, 0.1)).toBe(1)
    expect(underPressure(0, 0.1)).toBe(0)
    expect(underPressure(7, 1)).toBe(7)
  })
})

describe('a price', () => {
  const price = { prompt: 2, cached: 0.5, completion: 8 }

  it('counts a token of a prompt once, as cached or as not', () => {
    const tokens = { promptTokens: 1_000_000, cachedTokens: 400_000, completionTokens: 500_000 }
    expect(costOf(tokens, price)).toBeCloseTo(1.2 + 0.2 + 4)
  })

  it('is nothing where there is none', () => {
    expect(costOf({ promptTokens: 9, cachedTokens: 0, completionTokens: 9 }, undefined)).toBe(0)
  })
})

describe('a bill', () => {
  const NEED = { prompt: 100, output: 50 }
  const none = { promptTokens: null, completionTokens: null, cachedTokens: null, counted: null }
  const cases: readonly (readonly [string, Partial<Bill>, readonly number[]])[] = [
    ['what was counted', { counted: 'reported', cachedTokens: 3 }, [10, 3, 20, 0]],
    ['what was counted by its ids', { counted: 'ids' }, [10, 0, 20, 0]],
    ['a guess, apart from what was counted (L30)', { counted: 'estimate' }, [0, 0, 0, 30]],
    ['the prompt for one who left', { ...none, ending: 'client-left' }, [0, 0, 0, 100]],
    ['the prompt for one who vanished', { ...none, ending: 'lost' }, [0, 0, 0, 100]],
    ['nothing for what failed', { ...none, ending: 'upstream-failed' }, [0, 0, 0, 0]],
    ['nothing for what vLLM has refused', { ...none, ending: 'done' }, [0, 0, 0, 0]],
    ['nothing for what took too long', { ...none, ending: 'timed-out' }, [0, 0, 0, 0]],
    ['no more from a cache than the prompt', { cachedTokens: 99 }, [10, 10, 20, 0]],
    ['whole numbers of tokens', { promptTokens: 0.5, completionTokens: -3 }, [1, 0, 0, 0]],
  ]

  it.each(cases)('books %s', (_, said, expected) => {
    const counted = countedOf(bill({ counted: 'reported', ...said }), NEED)
    const { promptTokens, cachedTokens, completionTokens, estimatedTokens } = counted
    expect([promptTokens, cachedTokens, completionTokens, estimatedTokens]).toEqual(expected)
  })
})

describe('what holds for a tenant', () => {
  const PRO = plan({ rpm: 600, tpm: 1_000, models: ['qwen'], class: 'interactive' })

  it('is its plan, with its own in place of it; null is a word of its own', () => {
    const own = profile({ overrides: { rpm: 5, tpm: null, class: 'batch', models: ['*'] } })
    expect(entitlementOf(own, PRO, terms({ plans: { pro: PRO } }))).toEqual({
      limits: { rpm: 5, tpm: null, concurrency: null, tokensPerDay: null, tokensPerMonth: null },
      class: 'batch',
      models: ['*'],
      dryRun: false,
      planMissing: false,
    })
  })

  it('is everything, without a plan', () => {
    const free = entitlementOf(profile({ plan: null }), null, terms())
    expect(free).toMatchObject({ class: 'standard', models: ['*'], planMissing: false })
    expect(Object.values(free.limits)).toEqual([null, null, null, null, null])
  })

  it('is what its plan said last, once that is in no terms any more', () => {
    const gone = terms({ plans: {} })
    const said = planOf(profile(), gone, PRO)
    expect(said).toBe(PRO)
    expect(entitlementOf(profile(), said, gone)).toMatchObject({
      limits: { rpm: 600 },
      planMissing: true,
    })
  })

  it('is what a plan that has left the fleet said last, whatever the tenant was told of it', () => {
    const lastly = plan({ rpm: 80 })
    const gone = terms({ plans: {}, retired: { pro: lastly } })
    expect(planOf(profile(), gone, null)).toBe(lastly)
    expect(planOf(profile(), gone, plan({ rpm: 50 }))).toBe(lastly)
    expect(entitlementOf(profile(), lastly, gone)).toMatchObject({ planMissing: true })
    const back = terms({ plans: { pro: PRO }, retired: { pro: lastly } })
    expect(planOf(profile(), back, lastly)).toBe(PRO)
  })

  it('is no model, under a plan of which nobody remembers anything', () => {
    const gone = terms({ plans: {} })
    expect(planOf(profile({ plan: 'free' }), gone, PRO)).toBeNull()
    expect(entitlementOf(profile({ plan: 'free' }), null, gone).models).toEqual([])
    expect(planOf(profile({ plan: 'constructor' }), gone, null)).toBeNull()
  })

  it('is nothing under such a plan, whatever it has in place of parts of it', () => {
    const own = profile({ plan: 'free', overrides: { models: ['*'], rpm: null } })
    const none = entitlementOf(own, null, terms({ plans: {} }))
    expect(none).toMatchObject({ models: [], planMissing: true })
    expect(Object.values(none.limits)).toEqual([0, 0, 0, 0, 0])
  })
})
