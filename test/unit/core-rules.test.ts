import { describe, expect, it } from 'vitest'
import type { Rule, RuleCondition } from '../../durable-objects/fleet/snapshot.ts'
import { holds, looksAtPlan, ruleFor } from '../../worker/routing/rules.ts'
import { asked } from './core-asked.ts'

type Said = Parameters<typeof asked>[0]

const PICTURE = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }
const words = (tokens: number) => ({ prompt: 'abcd'.repeat(tokens) })

describe('a condition', () => {
  it.each<{ when: RuleCondition; yes: Said; no: Said }>([
    { when: { tenants: ['acme'] }, yes: {}, no: { tenant: 'acme2' } },
    { when: { tenants: ['x', 'ac*'] }, yes: {}, no: { tenant: 'a' } },
    { when: { keys: ['k1', 'k2'] }, yes: { keyId: 'k2' }, no: { keyId: 'k' } },
    { when: { plans: ['pro'] }, yes: { plan: 'pro' }, no: { plan: 'free' } },
    { when: { plans: ['*'] }, yes: { plan: 'pro' }, no: { plan: null } },
    { when: { users: ['u-7*'] }, yes: { user: 'u-7' }, no: { user: 'u-8' } },
    { when: { users: ['*'] }, yes: { user: 'x' }, no: { user: null } },
    {
      when: { headers: { 'x-model-version': ['int8', 'v2*'] } },
      yes: { headers: { 'X-Model-Version': 'v2.1' } },
      no: { headers: { 'x-model-version': 'int' } },
    },
    {
      when: { headers: { 'x-model-version': ['int8'] } },
      yes: { headers: { 'x-model-version': 'int4,  int8' } },
      no: { headers: { 'x-model-version': 'int8 int8' } },
    },
    {
      when: { headers: { 'x-a': ['a, b'] } },
      yes: { headers: { 'x-a': 'a, b' } },
      no: { headers: { 'x-a': 'a' } },
    },
    { when: { headers: { 'x-a': ['*'] } }, yes: { headers: { 'x-a': 'b' } }, no: {} },
    { when: { stream: true }, yes: { stream: true }, no: { stream: false } },
    { when: { stream: false }, yes: { stream: false }, no: { stream: true } },
    { when: { tools: true }, yes: { body: { tools: [{}] } }, no: { body: { tools: [] } } },
    { when: { tools: true }, yes: { body: { functions: [{}] } }, no: { body: {} } },
    { when: { tools: false }, yes: { body: { tools: null } }, no: { body: { tools: [{}] } } },
    {
      when: { images: true },
      yes: { body: { messages: [{ role: 'user', content: [PICTURE] }] } },
      no: { body: { messages: [{ role: 'user', content: 'image_url' }] } },
    },
    {
      when: { images: true },
      yes: { body: { input: [{ role: 'user', content: [{ type: 'input_image' }] }] } },
      no: { body: { messages: [{ content: [{ type: 'input_audio' }] }] } },
    },
    {
      when: { images: true },
      yes: { body: { messages: [{ content: [{ type: 'image', source: {} }] }] } },
      no: { body: { messages: [{ content: [{ type: 'video_url', video_url: {} }] }] } },
    },
    { when: { promptTokensOver: 99 }, yes: { body: words(100) }, no: { body: words(99) } },
  ])('$when holds of $yes, and not of $no', ({ when, yes, no }) => {
    expect(holds(when, asked(yes))).toBe(true)
    expect(holds(when, asked(no))).toBe(false)
  })

  it('holds if all that it says does', () => {
    const when = { tenants: ['acme'], stream: true, headers: { a: ['1'], b: ['2'] } }
    const all = { stream: true, headers: { a: '1', b: '2' } }
    expect(holds(when, asked(all))).toBe(true)
    for (const one of [{ tenant: 'x' }, { stream: false }, { headers: { a: '1' } }]) {
      expect(holds(when, asked({ ...all, ...one }))).toBe(false)
    }
    expect(holds({}, asked())).toBe(true)
  })

  it('counts pictures by what they weigh in tokens', () => {
    const of = asked({ body: { messages: [{ role: 'user', content: [PICTURE] }] } })
    const when = { promptTokensOver: 900 }
    expect(holds(when, of, { image: 1_000, audioSecond: 1 })).toBe(true)
    expect(holds(when, of)).toBe(false)
  })

  it('of a plan that nobody knows does not hold', () => {
    expect(holds({ plans: ['*'] }, { ...asked(), plan: () => undefined })).toBe(false)
  })

  it('does not look through a body that it asks nothing of, nor once something else fails', () => {
    const never = () => {
      throw new Error('looked at')
    }
    const traits = { ...asked(), tools: never, images: never, promptTokens: never }
    expect(holds({ tenants: ['acme'] }, traits)).toBe(true)
    const when = { tools: true, images: true, promptTokensOver: 1, plans: ['*'] }
    expect(holds({ ...when, tenants: ['x'] }, { ...traits, plan: never })).toBe(false)
  })
})

describe('rules', () => {
  const rule = (when: RuleCondition): Rule => ({ when, lead: { kind: 'arm', arm: 'a' } })

  it('decide in their order: the first that holds', () => {
    const rules = [{ stream: true }, { tenants: ['acme'] }, {}].map(rule)
    expect(ruleFor(rules, asked())).toBe(1)
    expect(ruleFor(rules, asked({ stream: true }))).toBe(0)
    expect(ruleFor(rules, asked({ tenant: 'x' }))).toBe(2)
    expect(ruleFor(rules.slice(0, 2), asked({ tenant: 'x' }))).toBeNull()
    expect(ruleFor(undefined, asked())).toBeNull()
  })

  it('are passed over where they lead to arms that are off; the others keep their places', () => {
    const rules = [{ ...rule({ plans: ['*'] }), off: true as const }, rule({})]
    expect(ruleFor(rules, asked({ plan: 'pro' }))).toBe(1)
    expect(looksAtPlan(rules)).toBe(false)
  })

  it('look at the plan where one of them names plans', () => {
    expect(looksAtPlan([rule({ stream: true }), rule({ plans: ['pro'] })])).toBe(true)
    expect(looksAtPlan([rule({ stream: true })])).toBe(false)
    expect(looksAtPlan()).toBe(false)
  })
})
