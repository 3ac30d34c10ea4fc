import { describe, expect, it } from 'vitest'
import { callOf } from '../../worker/ingress/call.ts'
import type { Rule } from '../../durable-objects/fleet/snapshot.ts'
import { ruleFor } from '../../worker/routing/rules.ts'
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

  it('is looked through once, however many rules want to know', () => {
    const looks: PropertyKey[] = []
    const messages = [{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'hi' }] }]
    const body = new Proxy(
      { messages, tools: [{}] },
      { get: (of, field) => (looks.push(field), Reflect.get(of, field)) },
    )
    const media = { image: 100, audioSecond: 1 }
    const rules = [1, 2, 3].map((): Rule => ({
      when: { tools: true, images: true, promptTokensOver: 1_000 },
      lead: { kind: 'arm', arm: 'a' },
    }))
    const of = asked({ body })
    expect(ruleFor(rules.slice(1), of, media)).toBeNull()
    const once = looks.length
    expect(ruleFor(rules, of, media)).toBeNull()
    expect(looks).toHaveLength(once)
    expect(of.promptTokens({ image: 2_000, audioSecond: 1 }), 'by other figures').toBeGreaterThan(
      2_000,
    )
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
    for (const trait of [of.tools, of.images, of.promptTokens]) {
      expect(() => trait()).toThrow('looked at')
    }
  })
})
