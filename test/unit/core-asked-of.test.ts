import { describe, expect, it } from 'vitest'
import { callOf } from '../../worker/ingress/call.ts'
import { asked } from './core-asked.ts'

describe('whose request it is', () => {
  it.each([
    { body: { user: 'a', safety_identifier: 'b', metadata: { user_id: 'c' } }, user: 'a' },
    { body: { safety_identifier: 'b', metadata: { user_id: 'c' } }, user: 'b' },
    { body: { metadata: { user_id: 'c' } }, user: 'c' },
    { body: { user: '', safety_identifier: 'b' }, user: 'b' },
    { body: { user: 7, metadata: { user_id: { id: 1 } } }, user: null },
    { body: { metadata: 'c' }, user: null },
    { body: {}, user: null },
  ])('is the first that its body names: $body', ({ body, user }) => {
    expect(callOf(body, 0).user).toBe(user)
  })
})

describe('what a request asks for', () => {
  it('is in one session with what the choice of an instance takes for it', () => {
    const headers = { 'x-session-id': 's' }
    expect(asked({ headers, body: { user: 'u' } }).session).toBe('s')
    expect(asked({ body: { prompt_cache_key: 'k', user: 'u' } }).session).toBe('k')
    expect(asked().session).toBe('')
  })

  it('is not looked through before somebody wants to know', () => {
    const body = new Proxy(
      {},
      {
        get: (_, field) => {
          if (field === 'messages' || field === 'tools') throw new Error(`looked at ${field}`)
        },
      },
    )
    const of = asked({ body })
    for (const trait of [of.tools, of.images, of.promptTokens, of.underWay]) {
      expect(() => trait()).toThrow('looked at')
    }
  })
})
