import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { compileFleet } from '../../durable-objects/fleet/compile.ts'
import { completePool, completeSnapshot } from '../../durable-objects/fleet/complete.ts'
import { lastInstancesGone } from '../../durable-objects/fleet/last-instance.ts'
import { aliasFor, isGlob, matchesModel } from '../../durable-objects/fleet/model-glob.ts'

const fleetOf = (text: string) => {
  const checked = checkFleet(text)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}
const compiled = (text: string) => {
  const { snapshot, pools } = compileFleet(fleetOf(text), 1, {})
  return { snapshot: completeSnapshot(snapshot), pools: pools.map(completePool) }
}

const FLEET = `
sites: { lab: { origin: https://gpu.example.com, node_key: NODE_KEY, region: weur } }
pools:
  big:
    served_as: B
    instances:
      - { id: b-1, site: lab, port: 1, slots: 4, weight: 2 }
      - { id: b-2, url: "https://api.example.com", key_env: FAR_KEY, last_resort: true }
  small: { served_as: S, instances: [{ id: s-1, site: lab, port: 2 }] }
  spare: { served_as: P, instances: [{ id: p-1, site: lab, port: 3 }] }
models:
  plain: { arms: [{ pool: small }] }
  tuned:
    aliases: [old, "claude-*", "claude-3-*"]
    arms:
      - { pool: big }
      - { pool: big, adapter: support, name: support }
      - { pool: small, adapter: " sales ", weight: 0 }
  other: { aliases: ["claude-3-h*"], arms: [{ pool: big, adapter: support }], shadow: { pool: spare, share: 0.25 } }
`

describe('a pool', () => {
  const { pools, snapshot } = compiled(FLEET)
  const [big, small, spare] = pools

  it('is told of the adapters that arms want of it, each once', () => {
    expect(big?.adapters).toEqual(['support'])
    expect(small?.adapters).toEqual(['sales'])
    expect(spare?.adapters).toEqual([])
  })

  it('is told which models are compared: those of several arms, and those with a shadow', () => {
    expect(big?.compared).toEqual(['tuned', 'other'])
    expect(small?.compared).toEqual(['tuned'])
    expect(spare?.compared).toEqual(['other'])
  })

  it('has its instances in the snapshot, so that a Worker reaches them when it is out of reach', () => {
    expect(snapshot.pools['big']?.instances).toEqual([
      {
        instance: 'b-1',
        base: 'https://gpu.example.com/i/b-1',
        site: 'lab',
        secrets: [{ header: 'x-penstock-node-key', secret: 'NODE_KEY' }],
        slots: 4,
        weight: 2,
        lastResort: false,
      },
      {
        instance: 'b-2',
        base: 'https://api.example.com',
        site: null,
        secrets: [{ header: 'authorization', secret: 'FAR_KEY', prefix: 'Bearer ' }],
        slots: 32,
        weight: 1,
        lastResort: true,
      },
    ])
  })
})

describe('a model', () => {
  const withFields = (fields: string) =>
    compiled(FLEET.replace('plain: { arms', `plain: { ${fields}, arms`)).snapshot.models['plain']

  it('has what holds where the file says nothing', () => {
    expect(withFields('aliases: []')).toEqual({
      name: 'plain',
      created: 0,
      aliases: [],
      path: null,
      arms: [{ name: 'stable', pool: 'small', weight: 100, adapter: null }],
      fallback: [],
      hosts: [],
      sticky: 'tenant+user',
      rules: [],
      guard: null,
      shadow: null,
      keepArmMs: 600_000,
    })
  })

  it('has arms with their adapters', () => {
    expect(compiled(FLEET).snapshot.models['tuned']?.arms).toEqual([
      { name: 'stable', pool: 'big', weight: 100, adapter: null },
      { name: 'support', pool: 'big', weight: 100, adapter: 'support' },
      { name: 'small', pool: 'small', weight: 0, adapter: 'sales' },
    ])
  })

  it('keeps nobody on his arm where keep_arm is 0s, and everybody of a tenant together', () => {
    expect(withFields('keep_arm: 0s, sticky: tenant')).toMatchObject({
      keepArmMs: 0,
      sticky: 'tenant',
    })
  })

  it('has its shadow', () => {
    expect(compiled(FLEET).snapshot.models['other']?.shadow).toEqual({ pool: 'spare', share: 0.25 })
  })

  it('has null where a threshold of its guard is off', () => {
    const guard = 'guard: { window: 30s, empty_ratio_over: off, ttft_p95_times: off }'
    const text = FLEET.replace('  tuned:\n', `  tuned:\n    ${guard}\n`)
    expect(compiled(text).snapshot.models['tuned']?.guard).toEqual({
      windowMs: 30_000,
      minRequests: 50,
      errorRatioOver: 0.05,
      emptyRatioOver: null,
      ttftP95Times: null,
      interTokenP95Times: 1.5,
    })
  })

  it('has one text of a rule as a list, and no condition that the file does not name', () => {
    const when = 'when: { tenant: acme, tools: false, images: false, stream: false }'
    const rules = `rules: [{ ${when}, arms: { stable: 1 } }]`
    expect(withFields(rules)?.rules).toEqual([
      {
        when: { tenants: ['acme'], tools: false, images: false, stream: false },
        lead: { kind: 'arms', weights: { stable: 1 } },
      },
    ])
  })
})

describe('the plans of a fleet with globs as aliases', () => {
  const modelsOf = (listed: string) => {
    const { terms } = compiled(`${FLEET}plans: { free: { models: [${listed}] } }\n`).snapshot
    return terms.plans['free']?.models
  }

  it.each([
    ['old', ['tuned']],
    ['claude-2', ['tuned']],
    ['claude-3-opus', ['tuned']],
    ['claude-3-haiku', ['other']],
    ['claude-2, old, tuned', ['tuned']],
  ])('mean by %s the model that a request would get', (listed, models) => {
    expect(modelsOf(listed)).toEqual(models)
  })

  it("mean by a glob models' own names, even where an alias is written the same", () => {
    const text = FLEET.replace('  plain:', '  claude-own:')
    const { terms } = compiled(`${text}plans: { free: { models: ["claude-*"] } }\n`).snapshot
    expect(terms.plans['free']?.models).toEqual(['claude-*'])
    expect(() => modelsOf('"claude-*"')).toThrow('claude-* is an alias of tuned')
  })
})

describe('aliasFor', () => {
  it.each([
    {
      name: 'claude-3',
      aliases: ['claude-*', 'claude-3'],
      is: 'claude-3',
      why: 'the very text wins',
    },
    {
      name: 'claude-3-x',
      aliases: ['claude-*', 'claude-3-*'],
      is: 'claude-3-*',
      why: 'more letters win',
    },
    {
      name: 'abc',
      aliases: ['*a*b*', 'abc*'],
      is: 'abc*',
      why: 'stars are no letters',
    },
    {
      name: 'ab',
      aliases: ['b*', 'a*', '*b'],
      is: '*b',
      why: 'the first by the alphabet wins a tie',
    },
    { name: 'gpt', aliases: ['claude-*'], is: null, why: 'none matches' },
  ])('of $name and $aliases is $is: $why', ({ name, aliases, is }) => {
    expect(aliasFor(name, aliases)).toBe(is)
    expect(aliasFor(name, aliases.toReversed())).toBe(is)
  })

  it('is the same in whatever order aliases stand, and always one that matches', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 5 })
    const name = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(name, fc.uniqueArray(text, { maxLength: 6 }), (asked, aliases) => {
        const found = aliasFor(asked, aliases)
        expect(aliasFor(asked, aliases.toReversed())).toBe(found)
        const fits = aliases.filter(
          (alias) => alias === asked || (isGlob(alias) && matchesModel(alias, asked)),
        )
        expect(fits.length === 0 ? found === null : fits.includes(found ?? '')).toBe(true)
      }),
    )
  })
})

describe('a shadow', () => {
  const gone = (change: (text: string) => string) =>
    lastInstancesGone(fleetOf(FLEET), fleetOf(change(FLEET)))

  it('serves nobody: it keeps no model alive', () => {
    const shadowed = FLEET.replace(
      'plain: { arms',
      'plain: { shadow: { pool: spare, share: 1 }, arms',
    )
    const after = shadowed.replace('port: 2', 'port: 22')
    expect(lastInstancesGone(fleetOf(shadowed), fleetOf(after))).toEqual([
      { model: 'plain', why: 'replaced', instances: ['s-1'] },
    ])
  })

  it('and its end is the end of no model', () => {
    expect(gone((text) => text.replace('port: 3', 'port: 33'))).toEqual([])
    expect(gone((text) => text.replace(', shadow: { pool: spare, share: 0.25 }', ''))).toEqual([])
  })
})
