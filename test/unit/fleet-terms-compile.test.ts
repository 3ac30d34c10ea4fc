import { describe, expect, it } from 'vitest'
import * as fc from 'fast-check'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { compileFleet, namedSecrets } from '../../durable-objects/fleet/compile.ts'
import { completeSnapshot } from '../../durable-objects/fleet/complete.ts'
import { canonicalJson, fingerprint, fnv1a64 } from '../../durable-objects/fleet/fingerprint.ts'
import { isGlob, matchesModel } from '../../durable-objects/fleet/model-glob.ts'
import { GOOD } from './fleet-mistake.ts'

const fleetOf = (text: string) => {
  const checked = checkFleet(text)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}
const snapshotOf = (text: string, version = 1) =>
  completeSnapshot(compileFleet(fleetOf(text), version, {}).snapshot)
const hashOf = (text: string, version = 1): string => snapshotOf(text, version).terms.hash

const TERMS = `${GOOD.replace(
  'path: /other',
  'path: /other, price: { prompt: 0.5, completion: 2 }',
).replace(
  '    path: /chat-7b',
  '    price: { prompt: 1, cached: 0, completion: 3 }\n    path: /chat-7b',
)}
plans:
  none: {}
  free: { models: [gpt-4o-mini, "o*", chat], rpm: 60, tpm: 40_000, concurrency: 4, class: batch }
  trial: { tokens_per_day: 1_000, tokens_per_month: 20_000, class: interactive, dry_run: true }
billing: { currency: EUR, time_zone: Europe/Berlin }
webhooks: [{ url_secret: ALERT_URL, events: [budget] }]
`

describe('the terms of a version', () => {
  const { terms } = snapshotOf(TERMS, 7)

  it('have every limit of every plan, null where there is none', () => {
    const unlimited = {
      rpm: null,
      tpm: null,
      concurrency: null,
      tokensPerDay: null,
      tokensPerMonth: null,
    }
    const usual = { models: ['*'], class: 'standard', dryRun: false }
    expect(terms.plans).toEqual({
      none: { name: 'none', ...usual, ...unlimited },
      free: {
        ...usual,
        ...unlimited,
        name: 'free',
        models: ['chat', 'o*'],
        class: 'batch',
        rpm: 60,
        tpm: 40_000,
        concurrency: 4,
      },
      trial: {
        ...usual,
        ...unlimited,
        name: 'trial',
        class: 'interactive',
        tokensPerDay: 1000,
        tokensPerMonth: 20_000,
        dryRun: true,
      },
    })
  })

  it("have prices by the models' own names; cached tokens cost what others do, unless said", () => {
    expect(terms.prices).toEqual({
      chat: { prompt: 1, cached: 0, completion: 3 },
      other: { prompt: 0.5, cached: 0.5, completion: 2 },
    })
  })

  it('say which money, which days and who is told', () => {
    expect(terms).toMatchObject({
      version: 7,
      currency: 'EUR',
      timeZone: 'Europe/Berlin',
      webhooks: [{ urlSecret: 'ALERT_URL', events: ['budget'] }],
    })
  })

  it('survive JSON, since that is how they are stored', () => {
    expect(JSON.parse(JSON.stringify(terms))).toEqual(terms)
  })

  it('are no plans, no prices, no money and UTC where the file says nothing of them', () => {
    expect(snapshotOf(GOOD).terms).toEqual({
      version: 1,
      hash: expect.stringMatching(/^[0-9a-f]{16}$/) as string,
      plans: {},
      prices: {},
      currency: null,
      timeZone: 'UTC',
      webhooks: [],
    })
  })

  it('are those of a file that says nothing where an earlier release has compiled it', () => {
    const { terms: _, jwt: _jwt, ...older } = snapshotOf(GOOD, 3)
    expect(completeSnapshot(older)).toEqual(snapshotOf(GOOD, 3))
  })
})

describe('the hash of the terms', () => {
  const other = (from: string, to: string): string => {
    if (!TERMS.includes(from)) throw new Error(`no ${from}`)
    return TERMS.replace(from, to)
  }

  it('is the same for every version that says the same to tenants', () => {
    const rest = other('port: 8001 }', 'port: 8001, slots: 9 }').replace('/other', '/another')
    expect(hashOf(rest, 9)).toBe(hashOf(TERMS, 1))
  })

  it.each([
    ['plans in another order', '  none: {}\n', '', '  none: {}\n'],
    ['written out in full', 'none: {}', 'none: { models: ["*"], class: standard, dry_run: false }'],
    ['a model by its name, not its alias', '[gpt-4o-mini, "o*", chat]', '[chat, "o*"]'],
    ['fields in another order', 'rpm: 60, tpm: 40_000', 'tpm: 40000, rpm: 60'],
    ['the price of cached tokens as it is anyway', 'prompt: 0.5,', 'prompt: 0.5, cached: 0.5,'],
  ])('is the same for %s', (_, from, to, atTheEnd = '') => {
    const text = other(from, to)
    const moved = atTheEnd === '' ? text : text.replace('billing:', `${atTheEnd}billing:`)
    expect(hashOf(moved)).toBe(hashOf(TERMS))
  })

  it.each([
    ['rpm: 60', 'rpm: 61'],
    ['concurrency: 4', 'concurrency: 4, tokens_per_day: 1'],
    ['class: batch', 'class: standard'],
    ['dry_run: true', 'dry_run: false'],
    ['  none: {}\n', ''],
    ['  none: {}\n', '  nun: {}\n'],
    ['"o*", ', ''],
    ['prompt: 0.5', 'prompt: 0.51'],
    ['cached: 0,', ''],
    ['EUR', 'USD'],
    ['Europe/Berlin', 'UTC'],
    ['ALERT_URL', 'OTHER_URL'],
  ])('is another one when %s becomes %j', (from, to) => {
    expect(hashOf(other(from, to))).not.toBe(hashOf(TERMS))
  })
})

it('names the secrets of webhooks, so that a local run asks for them', () => {
  expect(namedSecrets(fleetOf(TERMS))).toEqual([
    'ACCESS_ID',
    'ACCESS_SECRET',
    'ALERT_URL',
    'NODE_KEY',
    'VLLM_KEY',
  ])
})

describe('the issuer of tokens', () => {
  const jwt = (more = '') => `${GOOD}auth:
  jwt:
    issuer: https://Login.example.com/realm/
    audience: api
    jwks_url: https://Login.example.com/keys?p=1
${more}`

  it('is null where the file names none', () => {
    expect(snapshotOf(GOOD).jwt).toBeNull()
    expect(snapshotOf(`${GOOD}auth: {}\n`).jwt).toBeNull()
  })

  it('keeps its name letter for letter, as tokens have it', () => {
    expect(snapshotOf(jwt()).jwt).toEqual({
      issuer: 'https://Login.example.com/realm/',
      audience: 'api',
      jwksUrl: 'https://login.example.com/keys?p=1',
      tenantClaim: 'tenant',
      clockSkewS: 30,
    })
  })

  it('has its skew in seconds', () => {
    const more = '    tenant_claim: org_id\n    clock_skew: 1.5s\n'
    expect(snapshotOf(jwt(more)).jwt).toMatchObject({ tenantClaim: 'org_id', clockSkewS: 1.5 })
    expect(snapshotOf(jwt('    clock_skew: 0s\n')).jwt).toMatchObject({ clockSkewS: 0 })
  })

  it('is none of the terms', () => {
    expect(hashOf(jwt())).toBe(hashOf(GOOD))
  })
})

describe('fingerprint', () => {
  // The vectors of the FNV draft (draft-eastlake-fnv, appendix C).
  it.each([
    ['', 'cbf29ce484222325'],
    ['a', 'af63dc4c8601ec8c'],
    ['foobar', '85944171f73967e8'],
  ])('hashes %j as FNV-1a does', (text, hash) => {
    expect(fnv1a64(text)).toBe(hash)
  })

  it('does not go by the order of keys, at any depth', () => {
    const reversed = (value: unknown): unknown =>
      typeof value !== 'object' || value === null || Array.isArray(value)
        ? value
        : Object.fromEntries(
            Object.entries(value)
              .reverse()
              .map(([key, inner]) => [key, reversed(inner)]),
          )
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.dictionary(fc.string(), fc.jsonValue())),
        (value) => {
          expect(fingerprint(reversed(value))).toBe(fingerprint(value))
          expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)))
        },
      ),
    )
  })

  it('goes by the order of lists', () => {
    expect(fingerprint([1, 2])).not.toBe(fingerprint([2, 1]))
  })
})

describe('plans of the versions before', () => {
  const before = snapshotOf(TERMS).terms.plans
  const without = fleetOf(TERMS.replace(/^ {2}free: .*\n/m, ''))
  const after = compileFleet(without, 2, {}, before).snapshot.terms!

  it('are retired where the file has them no more, and tenants are told so', () => {
    expect(after.retired).toEqual({ free: before['free'] })
    expect(Object.keys(after.plans)).toEqual(['none', 'trial'])
    expect(after.hash).not.toBe(compileFleet(without, 2, {}).snapshot.terms?.hash)
  })

  it('change nothing while all of them are there', () => {
    expect(compileFleet(fleetOf(TERMS), 7, {}, before).snapshot.terms).toEqual(
      snapshotOf(TERMS, 7).terms,
    )
  })
})

describe('matchesModel', () => {
  it.each([
    ['*', 'qwen', true],
    ['qwen', 'qwen', true],
    ['qwen', 'qwen-14b', false],
    ['qwen-*', 'qwen-14b', true],
    ['qwen-*', 'qwen-', true],
    ['qwen-*', 'qwen', false],
    ['*-14b', 'qwen-14b', true],
    ['*-14b', 'qwen-14b-int8', false],
    ['org/*', 'org/model:tag', true],
    ['q*n*b', 'qwen-14b', true],
    ['a*a', 'a', false],
    ['a*b*a', 'aba', true],
    ['a*ba*a', 'aba', false],
    ['**', '', true],
    ['*ab*ab*', 'ab-b-a', false],
    ['q.en', 'qwen', false],
    ['Qwen*', 'qwen-14b', false],
  ])('%s, %s: %s', (pattern, name, matches) => {
    expect(matchesModel(pattern, name)).toBe(matches)
  })

  it('does as the regular expression would', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
    const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 })
    fc.assert(
      fc.property(word, name, (pattern, text) => {
        const expression = new RegExp(`^${pattern.replaceAll('*', '.*')}$`)
        expect(matchesModel(pattern, text)).toBe(expression.test(text))
      }),
      { numRuns: 2000 },
    )
  })

  it('is a glob where it has a star', () => {
    expect(['qwen', 'qwen-*', '*'].map(isGlob)).toEqual([false, true, true])
  })
})
