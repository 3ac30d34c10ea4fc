import { describe, expect, it } from 'vitest'
import { ask, BODY, keyOfAcme, refusal, withAcme } from './acme.ts'

withAcme()

const FORGED = 'psk_acme_abcdefgh_0123456789abcdefghijklmnopqrstuv_0123456789abcdefghijkl'
const from = (address: string, key: string) =>
  ask(BODY, undefined, { authorization: `Bearer ${key}`, 'cf-connecting-ip': address })

describe('bad keys, one after another', () => {
  it('are told to stop by address; a good key from there is served all the same', async () => {
    const codes: string[] = []
    for (let i = 0; i < 25; i++) codes.push((await refusal(await from('203.0.113.9', FORGED)))[2])
    expect(codes[0]).toBe('invalid_api_key')
    expect(codes.at(-1)).toBe('rate_limit_exceeded')

    const stopped = await from('203.0.113.9', FORGED)
    expect(stopped.headers.get('retry-after')).toBe('60')
    await stopped.text()
    const good = await from('203.0.113.9', keyOfAcme())
    expect(good.status).toBe(200)
    await good.text()
    expect((await refusal(await from('203.0.113.10', FORGED)))[2]).toBe('invalid_api_key')
  })
})
