import { describe, expect, it } from 'vitest'
import type { Admission, Admitted, TenantRpc } from '../../durable-objects/tenant/contract.ts'
import type { Ctx } from '../../worker/entrance.ts'
import type { Applicant } from '../../worker/ingress/admit.ts'
import { Standings } from '../../worker/ingress/standing.ts'
import { planOf, routesFor } from '../../worker/routes-for.ts'
import { asked } from './core-asked.ts'
import { modelRoute, poolRoute, snapshot } from './core-builders.ts'
import { terms } from './core-tenant-world.ts'

const IDENTITY = { tenant: 'acme', keyId: 'k', keyHash: 'h' }
const STANDING = { plan: 'pro', class: 'standard', models: ['*'] } as const
const ARMS = ['stable', 'canary'].map((name, i) => ({ name, pool: 'p', weight: 1 - i }))
const FLEET = snapshot({
  models: {
    plans: modelRoute({
      name: 'plans',
      arms: ARMS,
      rules: [{ when: { plans: ['pro'] }, lead: { kind: 'arm', arm: 'canary' } }],
    }),
    tenants: modelRoute({
      name: 'tenants',
      arms: ARMS,
      rules: [{ when: { tenants: ['acme'] }, lead: { kind: 'arm', arm: 'canary' } }],
    }),
  },
  pools: { p: poolRoute({ pool: 'p' }) },
})

/** An isolate that may have been told of the tenant, whose object says yes unless told otherwise. */
function world(answer: Admitted = { kind: 'admitted', standing: STANDING }) {
  const asking: Admission[] = []
  const applicant: Applicant = {
    tenant: () =>
      ({
        admit: async (admission: Admission) => {
          asking.push(admission)
          return answer
        },
      }) as unknown as TenantRpc,
    identity: IDENTITY,
    terms: terms(),
    address: '',
    standings: new Standings(() => 0),
    onBadKey: async () => undefined,
  }
  const armOf = async (model: string) => {
    const c = { get: () => ({}) } as unknown as Ctx
    const source = {
      load: async () => null,
      now: () => 0,
      sleep: async () => undefined,
      defer: () => undefined,
    }
    const of = { ...asked({ model }), plan: planOf(applicant) }
    const [first] = await routesFor(c, source, FLEET, { applicant, asked: of })
    return first.arm.name
  }
  return { asking, applicant, armOf }
}

describe('where a rule looks at the plan', () => {
  it('the tenant’s object is asked first in an isolate that does not know it, and once', async () => {
    const { asking, armOf } = world()
    expect(await armOf('plans')).toBe('canary')
    expect(asking).toMatchObject([{ claim: null }])
    expect(await armOf('plans')).toBe('canary')
    expect(asking).toHaveLength(1)
  })

  it('nobody is asked who is known', async () => {
    const { asking, applicant, armOf } = world()
    applicant.standings.note(IDENTITY, { ...STANDING, plan: 'free' })
    expect(await armOf('plans')).toBe('stable')
    expect(asking).toHaveLength(0)
  })

  it('an object of the release before leaves it unknown, and the rule does not hold', async () => {
    const { armOf } = world({ kind: 'admitted' })
    expect(await armOf('plans')).toBe('stable')
  })

  it('a key that is refused gets no further', async () => {
    const { armOf } = world({ kind: 'refused', code: 'tenant_suspended' })
    await expect(armOf('plans')).rejects.toMatchObject({ code: 'tenant_suspended' })
  })
})

it('where none does, the tenant’s object is not asked before the slot is', async () => {
  const { asking, armOf } = world()
  expect(await armOf('tenants')).toBe('canary')
  expect(asking).toHaveLength(0)
})
