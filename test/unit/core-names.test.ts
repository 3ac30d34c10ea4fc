import { describe, expect, it, vi } from 'vitest'
import type { ModelRoute } from '../../durable-objects/fleet/snapshot.ts'
import { meantBy, modelAt, modelNamed } from '../../worker/routing/names.ts'
import { modelRoute, snapshot } from './core-builders.ts'

const fleet = (models: Readonly<Record<string, Partial<ModelRoute>>>) =>
  snapshot({
    models: Object.fromEntries(
      Object.entries(models).map(([name, said]) => [name, modelRoute({ name, ...said })]),
    ),
  })

describe('a name', () => {
  const FLEET = fleet({
    a: { aliases: ['claude-*', 'gpt-4o', 'x*z'] },
    b: { aliases: ['claude-3-*', '*-mini', 'gpt-*-mini', 'same-a*'] },
    c: { aliases: ['claude-3-opus', 'same-*a', '*'] },
    'claude-b': {},
  })

  it.each([
    { name: 'claude-b', model: 'claude-b', why: 'a name comes before every glob' },
    { name: 'claude-3-opus', model: 'c', why: 'an alias comes before every glob' },
    { name: 'claude-3-haiku', model: 'b', why: 'the glob that says more is closer' },
    { name: 'claude-2', model: 'a', why: 'one glob fits' },
    { name: 'gpt-4o-mini', model: 'b', why: 'a glob is one from end to end' },
    { name: 'gpt-4o', model: 'a', why: 'it is an alias' },
    { name: 'xz', model: 'a', why: 'a star stands for nothing as well' },
    { name: 'same-aa', model: 'c', why: 'of two that say as much, the first by the alphabet' },
    { name: 'whatever', model: 'c', why: 'a star alone stands for all that nobody else has' },
  ])('$name means $model: $why', ({ name, model }) => {
    expect(modelNamed(FLEET, name)?.name).toBe(model)
  })

  it('is its model’s own before it is an alias of another one', () => {
    expect(modelNamed(fleet({ a: { aliases: ['b'] }, b: {} }), 'b')?.name).toBe('b')
    expect(modelNamed(fleet({ b: {}, a: { aliases: ['b'] } }), 'b')?.name).toBe('b')
  })

  it.each(['', 'a b', 'é', 'x\r\ny: z', '<script>', '*', 'n'.repeat(129), '-n', '__proto__'])(
    'that no model could have is none, whatever globs there are: %j',
    (name) => {
      expect(modelNamed(FLEET, name)).toBeUndefined()
    },
  )

  it('has its arm after the last @', () => {
    expect(meantBy(FLEET, 'claude-2@canary')).toMatchObject({ model: { name: 'a' }, arm: 'canary' })
    expect(meantBy(FLEET, 'a')).toMatchObject({ model: { name: 'a' }, arm: null })
    expect(meantBy(FLEET, 'a@')).toMatchObject({ arm: '' })
    expect(meantBy(FLEET, 'a@b@c'), 'no name has an @').toBeUndefined()
  })

  it('is compared with globs that were put in order once for each snapshot', () => {
    const aliases = vi.fn<() => string[]>(() => ['a*', 'ab*', 'abc*'])
    const model = Object.defineProperty(modelRoute({ name: 'x' }), 'aliases', { get: aliases })
    const at = snapshot({ models: { x: model } })
    for (const name of ['abcd', 'abd', 'ad', 'd']) modelNamed(at, name)
    expect(aliases).toHaveBeenCalledOnce()
  })

  it('is looked up in each snapshot by itself', () => {
    const [one, two] = [fleet({ a: { aliases: ['x'] } }), fleet({ b: { aliases: ['x'] } })]
    expect([one, two, one].map((at) => modelNamed(at, 'x')?.name)).toEqual(['a', 'b', 'a'])
  })
})

describe('a destination', () => {
  const FLEET = fleet({
    qwen: { path: '/qwen', hosts: ['qwen.example.com', 'q.example.com'] },
    internlm: { path: '/internlm' },
  })

  it.each([
    { to: { host: 'qwen.example.com', prefix: '' }, model: 'qwen' },
    { to: { host: 'q.example.com', prefix: '' }, model: 'qwen' },
    { to: { host: 'qwen.example.com.', prefix: '' }, model: 'qwen' },
    { to: { host: 'qwen.example.com..', prefix: '' }, model: undefined },
    { to: { host: 'api.example.com', prefix: '' }, model: undefined },
    { to: { host: '', prefix: '' }, model: undefined },
    { to: { host: 'api.example.com', prefix: '/qwen' }, model: 'qwen' },
    { to: { host: 'qwen.example.com', prefix: '/internlm' }, model: 'internlm' },
    { to: { host: 'qwen.example.com', prefix: '/nobody' }, model: undefined },
  ])('$to is of $model: a path is closer than a host', ({ to, model }) => {
    expect(modelAt(FLEET, to)?.name).toBe(model)
  })
})
