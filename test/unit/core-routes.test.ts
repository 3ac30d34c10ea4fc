import { describe, expect, it } from 'vitest'
import type { Arm, ModelRoute, Rule, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { cohortOf } from '../../worker/routing/cohort.ts'
import {
  asksForPlan,
  keeping,
  longestMs,
  resolve,
  resolveAll,
  type Route,
} from '../../worker/routing/resolve.ts'
import { asked } from './core-asked.ts'
import { modelRoute, poolRoute, snapshot } from './core-builders.ts'

const arm = (name: string, weight: number, more: Partial<Arm> = {}): Arm => ({
  name,
  pool: name,
  weight,
  ...more,
})

/** Everybody goes to `stable` but those whom something else leads elsewhere. */
const ARMS = [arm('stable', 100), arm('canary', 0), arm('third', 0)]
const LONG = modelRoute({
  name: 'qwen-long',
  aliases: ['long'],
  arms: [arm('stable', 1, { pool: 'long' })],
  fallback: ['small'],
  rules: [{ when: {}, lead: { kind: 'model', model: 'small' } }],
})
const SMALL = modelRoute({ name: 'small', arms: [arm('stable', 1, { pool: 'small' })] })

const fleet = (qwen: Partial<ModelRoute> = {}): Snapshot =>
  snapshot({
    version: 7,
    models: {
      qwen: modelRoute({ name: 'qwen', path: '/qwen', arms: ARMS, ...qwen }),
      'qwen-long': LONG,
      small: SMALL,
    },
    pools: Object.fromEntries(
      ['stable', 'canary', 'third', 'long', 'small'].map((pool) => [pool, poolRoute({ pool })]),
    ),
  })

const ruled = (...rules: Rule[]): Snapshot => fleet({ rules })
const toArm = (name: string, when: Rule['when'] = {}): Rule => ({
  when,
  lead: { kind: 'arm', arm: name },
})
const toModel = (model: string, when: Rule['when'] = {}): Rule => ({
  when,
  lead: { kind: 'model', model },
})

describe('a rule that holds', () => {
  it('leads to an arm, whatever its share is, and is told', () => {
    const at = ruled(toArm('third', { tenants: ['x'] }), toArm('canary', { stream: true }))
    const route = resolve(at, asked({ model: 'qwen', stream: true }))
    expect(route).toMatchObject({ arm: { name: 'canary' }, pool: { pool: 'canary' }, rule: 1 })
    const other = resolve(at, asked({ model: 'qwen' }))
    expect(other).toMatchObject({ arm: { name: 'stable' }, rule: null })
  })

  it('counts under the model’s path as well', () => {
    const at = ruled(toArm('canary'))
    expect(resolve(at, asked({ prefix: '/qwen', model: 'x' })).arm.name).toBe('canary')
  })

  it('gives weights of its own, by which each cohort has its arm; who is not named gets none', () => {
    const at = ruled({ when: {}, lead: { kind: 'arms', weights: { canary: 30, third: 70 } } })
    const arms = Array.from(
      { length: 4_000 },
      (_, i) => resolve(at, asked({ model: 'qwen', user: `u${i}` })).arm.name,
    )
    const share = (name: string) => arms.filter((one) => one === name).length / arms.length
    expect(share('stable')).toBe(0)
    expect(Math.abs(share('canary') - 0.3)).toBeLessThan(0.03)
    expect(resolve(at, asked({ model: 'qwen', user: 'u1' }))).toMatchObject({ rule: 0 })
    expect(arms[1]).toBe(resolve(at, asked({ model: 'qwen', user: 'u1' })).arm.name)
  })

  it('leads to another model, which answers in the name that was asked for', () => {
    const at = ruled(toModel('qwen-long', { promptTokensOver: 10 }))
    const body = { messages: [{ role: 'user', content: 'long '.repeat(100) }] }
    expect(resolve(at, asked({ model: 'qwen', body }))).toMatchObject({
      model: { name: 'qwen-long' },
      pool: { pool: 'long' },
      asked: 'qwen',
      shown: 'qwen',
      rule: 0,
    })
    expect(resolve(at, asked({ model: 'qwen' }))).toMatchObject({
      model: { name: 'qwen' },
      asked: 'qwen',
    })
  })

  it('leads no further than one model: the rules of that one are not read', () => {
    const at = ruled(toModel('qwen-long'))
    const [first, ...others] = resolveAll(at, asked({ model: 'qwen' }))
    expect(first.model.name).toBe('qwen-long')
    expect(resolve(at, asked({ model: 'long' })).model.name, 'asked for, they are').toBe('small')
    expect(others, 'what it falls back to, in its own name').toMatchObject([
      { model: { name: 'small' }, asked: 'qwen', shown: 'small', rule: null },
    ])
  })

  it('means nothing to who names an arm himself', () => {
    const at = ruled(toModel('qwen-long'))
    expect(resolve(at, asked({ model: 'qwen@third' }))).toMatchObject({
      model: { name: 'qwen' },
      arm: { name: 'third' },
      rule: null,
    })
  })

  it('is not read where the model is only fallen back to', () => {
    const at = ruled(toArm('canary'))
    const behind = { ...at.models, small: { ...SMALL, fallback: ['qwen'] } }
    const [, fallback] = resolveAll({ ...at, models: behind }, asked({ model: 'small' }))
    expect(fallback).toMatchObject({ model: { name: 'qwen' }, arm: { name: 'stable' } })
  })

  it.each([toArm('gone'), toModel('gone'), toModel('toString')])(
    'and leads nowhere is a model that is not there: %j',
    (rule) => {
      expect(() => resolve(ruled(rule), asked({ model: 'qwen' }))).toThrow(
        expect.objectContaining({ code: 'model_not_found' }),
      )
    },
  )
})

describe('the plan', () => {
  const PLANS = ruled(toArm('canary', { plans: ['pro'] }))

  it('leads where a rule says', () => {
    expect(resolve(PLANS, asked({ model: 'qwen', plan: 'pro' })).arm.name).toBe('canary')
    expect(resolve(PLANS, asked({ model: 'qwen', plan: 'free' })).arm.name).toBe('stable')
  })

  it('must be known only where a rule looks at it', () => {
    expect(asksForPlan(PLANS, asked({ model: 'qwen' }))).toBe(true)
    expect(asksForPlan(PLANS, asked({ prefix: '/qwen' }))).toBe(true)
    expect(asksForPlan(PLANS, asked({ model: 'qwen@canary' })), 'an arm is named').toBe(false)
    expect(asksForPlan(PLANS, asked({ model: 'small' }))).toBe(false)
    expect(asksForPlan(ruled(toArm('canary')), asked({ model: 'qwen' }))).toBe(false)
  })
})

describe('a cohort', () => {
  const member = { tenant: 'acme', user: 'u', session: 's' }

  it('is a tenant’s user, a tenant, or a session, as the model says', () => {
    expect(cohortOf(member)).toBe('acme\0u')
    expect(cohortOf(member, 'tenant+user')).toBe('acme\0u')
    expect(cohortOf(member, 'tenant')).toBe('acme\0')
    expect(cohortOf(member, 'session')).toBe('acme\0s')
  })

  it('is the whole tenant where a request says nothing', () => {
    const silent = { tenant: 'acme', user: null, session: '' }
    for (const sticky of ['tenant+user', 'tenant', 'session'] as const) {
      expect(cohortOf(silent, sticky)).toBe('acme\0')
    }
  })

  it('keeps together whom its model says, and no others', () => {
    const arms = [arm('stable', 50), arm('canary', 50)]
    const armsOf = (sticky: ModelRoute['sticky'], said: (i: number) => object) => {
      const at = fleet({ arms, ...(sticky && { sticky }) })
      const of = (i: number) => resolve(at, asked({ model: 'qwen', ...said(i) })).arm.name
      return new Set(Array.from({ length: 50 }, (_, i) => of(i))).size
    }
    const user = (i: number) => ({ user: `u${i}` })
    const session = (i: number) => ({ headers: { 'x-session-id': `s${i}` } })
    expect([armsOf(undefined, user), armsOf('tenant', user), armsOf('session', user)]).toEqual([
      2, 1, 1,
    ])
    expect([armsOf('session', session), armsOf('tenant+user', session)]).toEqual([2, 1])
  })
})

describe('a conversation may keep', () => {
  const namesOf = ({ keepable }: Route) => keepable.map(({ arm: { name } }) => name)
  const may = (at: Snapshot, said: object = {}) =>
    namesOf(resolve(at, asked({ model: 'qwen', ...said })))

  it('each arm of its model, with a share or without, but one that is off', () => {
    expect(may(fleet())).toEqual(['stable', 'canary', 'third'])
    const arms = [arm('stable', 1), arm('canary', 0, { off: true }), arm('third', 0)]
    expect(may(fleet({ arms }))).toEqual(['stable', 'third'])
  })

  it('what a rule gives a weight, and no other arm', () => {
    const at = ruled({ when: {}, lead: { kind: 'arms', weights: { canary: 30, third: 70 } } })
    expect(may(at)).toEqual(['canary', 'third'])
  })

  it('nothing where no share has decided, or there is one arm', () => {
    expect(may(fleet(), { model: 'qwen@third' }), 'its own word').toEqual([])
    expect(may(ruled(toArm('canary'))), 'a rule').toEqual([])
    expect(may(fleet({ arms: [arm('stable', 1)] }))).toEqual([])
  })

  it('an arm of the model that a rule leads to, or that is fallen back to', () => {
    const wide = { ...SMALL, arms: [...SMALL.arms, arm('third', 0)] }
    const { models, ...rest } = fleet({
      rules: [toModel('small', { stream: true })],
      fallback: ['small'],
    })
    const at = { ...rest, models: { ...models, small: wide } }
    expect(may(at, { stream: true })).toEqual(['stable', 'third'])
    const [, fallback] = resolveAll(at, asked({ model: 'qwen' }))
    expect(fallback && namesOf(fallback)).toEqual(['stable', 'third'])
  })
})

describe('a request is fit to compare arms by', () => {
  const byShares = (at: Snapshot, said: object = {}) =>
    resolve(at, asked({ model: 'qwen', ...said })).byShares

  it('where shares chose its arm: its model’s, if that has but one, or a rule’s', () => {
    expect(byShares(fleet())).toBe(true)
    expect(byShares(fleet({ arms: [arm('stable', 1)] }))).toBe(true)
    const split = { canary: 30, third: 70 }
    expect(byShares(ruled({ when: {}, lead: { kind: 'arms', weights: split } }))).toBe(true)
  })

  it('not where it named its arm, or a rule did', () => {
    expect(byShares(fleet(), { model: 'qwen@canary' })).toBe(false)
    expect(byShares(ruled(toArm('canary')))).toBe(false)
    const one = { canary: 1, third: 0 }
    expect(byShares(ruled({ when: {}, lead: { kind: 'arms', weights: one } }))).toBe(false)
  })

  it('by the shares of the model that a rule leads to, or that is fallen back to', () => {
    const at = fleet({ rules: [toModel('small', { stream: true })], fallback: ['small'] })
    expect(byShares(at, { stream: true })).toBe(true)
    const [, fallback] = resolveAll(at, asked({ model: 'qwen@canary' }))
    expect(fallback).toMatchObject({ model: { name: 'small' }, byShares: true })
  })
})

it('a request may take as long as the slowest arm that its conversation may keep', () => {
  const { pools, ...rest } = fleet({ arms: [arm('stable', 1), arm('canary', 0)] })
  const taking = (totalMs: number) => poolRoute({ timeouts: { ...poolRoute().timeouts, totalMs } })
  const at = { ...rest, pools: { ...pools, stable: taking(1_000), canary: taking(9_000) } }
  const longest = (model: string) => longestMs(resolve(at, asked({ model })))
  expect([longest('qwen'), longest('qwen@stable'), longest('qwen@canary')]).toEqual([
    9_000, 1_000, 9_000,
  ])
})

describe('a route that keeps an arm', () => {
  const at = fleet({ arms: [arm('stable', 1), arm('canary', 0, { adapter: 'tuned' })] })
  const route = resolve(at, asked({ model: 'qwen' }))
  const kept = (arm: string, model = 'qwen') => keeping(route, { model, arm })

  it('is the same way to that arm, and all that serves it', () => {
    const there = kept('canary')
    expect(there).toEqual({ ...route, arm: there.arm, pool: there.pool })
    expect(there).toMatchObject({ arm: { name: 'canary' }, pool: { servedAs: 'tuned' } })
    expect(keeping(there, { model: 'qwen', arm: 'canary' })).toBe(there)
  })

  it('is the very same where there is none to keep', () => {
    expect(keeping(route, null)).toBe(route)
    expect(kept('stable')).toBe(route)
    expect(kept('third'), 'it has left the model').toBe(route)
    expect(kept('canary', 'small'), 'it is another model’s').toBe(route)
  })
})

it('an arm with an adapter asks its pool for that, an arm without for the pool’s own model', () => {
  const at = fleet({ arms: [arm('stable', 1, { adapter: 'tuned' }), arm('canary', 0)] })
  const tuned = resolve(at, asked({ model: 'qwen' }))
  expect(tuned.pool).toEqual({ ...at.pools['stable'], servedAs: 'tuned' })
  expect(resolve(at, asked({ model: 'qwen@canary' })).pool).toBe(at.pools['canary'])
})

describe('a host', () => {
  const HOSTS = fleet({ hosts: ['qwen.example.com'], rules: [toArm('canary', { stream: true })] })
  const host = 'qwen.example.com'

  it.each([
    { said: {}, arm: 'stable', shown: 'qwen', why: 'says the model where the body does not' },
    { said: { model: 'small' }, arm: 'stable', shown: 'qwen', why: 'wins over the body' },
    { said: { model: 'small@stable' }, arm: 'stable', shown: 'qwen', why: 'and over its arm' },
    { said: { model: 'qwen@third' }, arm: 'third', shown: 'qwen@third', why: 'but for its own' },
    { said: { stream: true }, arm: 'canary', shown: 'qwen', why: 'is under its model’s rules' },
  ])('$why', ({ said, arm: name, shown }) => {
    const route = resolve(HOSTS, asked({ host, ...said }))
    expect(route).toMatchObject({ model: { name: 'qwen' }, arm: { name }, asked: 'qwen', shown })
  })

  it('that is nobody’s leaves it to the body', () => {
    const elsewhere = { host: 'penstock.workers.dev' }
    expect(resolve(HOSTS, asked({ ...elsewhere, model: 'small' })).model.name).toBe('small')
    expect(() => resolve(HOSTS, asked(elsewhere))).toThrow(
      expect.objectContaining({ code: 'missing_required_parameter' }),
    )
  })

  it('does not lead to the model again that is fallen back to', () => {
    const models = { ...HOSTS.models, qwen: { ...HOSTS.models['qwen']!, fallback: ['small'] } }
    const routes = resolveAll({ ...HOSTS, models }, asked({ host }))
    expect(routes.map(({ model }) => model.name)).toEqual(['qwen', 'small'])
  })
})

describe('of 100,000 tenants', () => {
  const TENANTS = Array.from({ length: 100_000 }, (_, i) =>
    asked({ model: 'qwen', tenant: `t${i}` }),
  )
  const split = (canary: number) => {
    const at = fleet({ arms: [arm('stable', 100 - canary), arm('canary', canary)] })
    return TENANTS.map((tenant) => resolve(at, tenant).arm.name === 'canary')
  }

  it('each arm has its share within half a point, and a growing one sends nobody back', () => {
    const off: number[] = []
    let back = 0
    let last: readonly boolean[] | undefined
    for (const percent of [5, 10, 50]) {
      const now = split(percent)
      let on = 0
      for (let i = 0; i < now.length; i++) {
        if (now[i]) on++
        else if (last?.[i]) back++
      }
      off.push(Math.abs((on / now.length) * 100 - percent))
      last = now
    }
    expect({ within: off.every((points) => points < 0.5), back }).toEqual({ within: true, back: 0 })
  })
})
