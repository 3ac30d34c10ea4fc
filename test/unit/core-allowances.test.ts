import { describe, expect, it } from 'vitest'
import { PoolNews } from '../../worker/forward/pool-news.ts'
import { allowanceHeaders, durationOf } from '../../worker/ingress/allowance-headers.ts'
import { countBadKey } from '../../worker/ingress/bad-keys.ts'
import { Standings } from '../../worker/ingress/standing.ts'

describe('what is left of a tenant\u2019s limits', () => {
  it('is told by OpenAI\u2019s headers', () => {
    const requests = { limit: 60, remaining: 59, resetMs: 1_000 }
    const tokens = { limit: 40_000, remaining: 0, resetMs: 59_999 }
    expect(Object.fromEntries(allowanceHeaders({ requests, tokens }))).toEqual({
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': '1s',
      'x-ratelimit-limit-tokens': '40000',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '1m0s',
    })
  })

  it('is not told where there is no limit', () => {
    expect(allowanceHeaders({ requests: null, tokens: null })).toEqual([])
  })

  it.each([
    [0, '0ms'],
    [19.2, '20ms'],
    [999, '999ms'],
    [1_000, '1s'],
    [1_501, '1.6s'],
    [59_900, '59.9s'],
    [61_000, '1m1s'],
  ])('%d ms are %s', (ms, text) => {
    expect(durationOf(ms)).toBe(text)
  })
})

describe('what a pool says of itself in passing', () => {
  const GRANTED = { kind: 'granted' } as never

  it('holds for a moment', () => {
    let now = 0
    const news = new PoolNews(() => now)
    expect([news.pressure('a'), news.usualOutputTokens('a')]).toEqual([0, 256])
    news.note('a', { kind: 'busy', retryAfterS: 1, pressure: 2 })
    news.note('a', { kind: 'queued', ahead: 1, ticket: null as never, pressure: 2 })
    now = 9_999
    expect([news.pressure('a'), news.pressure('b')]).toEqual([2, 0])
    now = 10_000
    expect(news.pressure('a')).toBe(0)
  })

  it('is at ease where it says nothing', () => {
    const news = new PoolNews(() => 0)
    news.note('a', { kind: 'busy', retryAfterS: 1, pressure: 3 })
    news.note('a', { ...(GRANTED as object), usualOutputTokens: 300 } as never)
    expect([news.pressure('a'), news.usualOutputTokens('a')]).toEqual([0, 300])
    news.note('a', { kind: 'busy', retryAfterS: 1 })
    expect(news.usualOutputTokens('a'), 'lengths stay known').toBe(300)
  })
})

describe('what is known of a tenant', () => {
  const WHO = { tenant: 'acme', keyId: 'k', keyHash: 'h' }
  const STANDING = { plan: null, class: 'standard', models: ['*'] } as const

  it('has one who is at a limit asked about first, until he may have room again', () => {
    let now = 0
    const standings = new Standings(() => now)
    standings.press(WHO, 7_000)
    now = 6_999
    expect([standings.isPressed(WHO), standings.isPressed({ ...WHO, keyId: 'other' })]).toEqual([
      true,
      false,
    ])
    now = 7_000
    expect(standings.isPressed(WHO)).toBe(false)
  })

  it('is believed for thirty seconds, a refusal for five', () => {
    let now = 0
    const standings = new Standings(() => now)
    standings.note(WHO, STANDING)
    standings.note({ ...WHO, keyHash: 'bad' }, null)
    now = 4_999
    expect(standings.of({ ...WHO, keyHash: 'bad' })).toBeNull()
    now = 29_999
    expect(standings.of({ ...WHO, keyHash: 'bad' })).toBeUndefined()
    expect(standings.of(WHO)).toBe(STANDING)
    now = 30_000
    expect(standings.of(WHO)).toBeUndefined()
  })
})

describe('the address a bad key is counted by', () => {
  it.each([
    ['203.0.113.9', '203.0.113.9'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:db8::1', '2001:db8:0:0'],
  ])('of %s is %s', async (address, key) => {
    const counted: string[] = []
    const limit = async (of: { readonly key: string }) => {
      counted.push(of.key)
      return { success: true }
    }
    await countBadKey({ limit }, address)
    expect(counted).toEqual([key])
  })

  it('is told to stop, unless the counter itself fails', async () => {
    const full = { limit: async () => ({ success: false }) }
    await expect(countBadKey(full, '203.0.113.9')).rejects.toMatchObject({
      code: 'rate_limit_exceeded',
    })
    const broken = { limit: () => Promise.reject(new Error('no such namespace')) }
    await expect(countBadKey(broken, '203.0.113.9')).resolves.toBeUndefined()
    await expect(countBadKey(full, ''), 'nobody is counted as everybody').resolves.toBeUndefined()
  })
})
