import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { GOOD, mistakeIn, problemsOf } from './fleet-mistake.ts'

/** Written at the top of the file: what is written, `‸` where the mistake is | its path | part of the message. */
const AT_THE_TOP = String.raw`
plans: ‸free | plans | must be a map, not text
plans: { free: ‸null } | plans.free | must be a map, not nothing
plans: { ‸Free: {} } | plans.Free | lowercase letters, digits and dashes
plans: { ‸Free: { rpm: 0 } } | plans.Free | lowercase letters, digits and dashes | plans.Free.rpm
‸plan: {} | plan | did you mean plans?
plans: { free: { ‸rmp: 60 } } | plans.free.rmp | did you mean rpm?
plans: { free: { ‸token_per_day: 60 } } | plans.free.token_per_day | did you mean tokens_per_day?
plans: { free: { ‸budget: 60 } } | plans.free.budget | known here: models, rpm, tpm, concurrency, tokens_per_day, tokens_per_month, class, dry_run
plans: { free: { rpm: ‸0 } } | plans.free.rpm | a whole number of at least 1, e.g. 600, without quotes or a unit; leave the key out for no limit
plans: { free: { rpm: ‸-60 } } | plans.free.rpm | at least 1
plans: { free: { rpm: ‸0.5 } } | plans.free.rpm | a whole number
plans: { free: { rpm: ‸1e400 } } | plans.free.rpm | a whole number
plans: { free: { tpm: ‸40k } } | plans.free.tpm | a whole number of at least 1, e.g. 400_000
plans: { free: { tpm: ‸"40_000" } } | plans.free.tpm | without quotes
plans: { free: { tpm: ‸40_000.5 } } | plans.free.tpm | a whole number
plans: { free: { tpm: ‸40__000 } } | plans.free.tpm | a whole number
plans: { free: { concurrency: ‸0 } } | plans.free.concurrency | at least 1, e.g. 64
plans: { free: { concurrency: ‸unlimited } } | plans.free.concurrency | leave the key out for no limit
plans: { free: { concurrency: ‸null } } | plans.free.concurrency | leave the key out for no limit
plans: { free: { tokens_per_day: ‸0 } } | plans.free.tokens_per_day | at least 1, e.g. 10_000_000
plans: { free: { tokens_per_month: ‸1.5 } } | plans.free.tokens_per_month | e.g. 500_000_000
plans: { free: { class: ‸bacth } } | plans.free.class | did you mean batch?
plans: { free: { class: ‸gold } } | plans.free.class | write one of interactive, standard, batch
plans: { free: { dry_run: ‸yes } } | plans.free.dry_run | must be true or false, not text
plans: { free: { models: ‸chat } } | plans.free.models | must be a list, not text
plans: { free: { ‸models: [] } } | plans.free.models | needs at least one model; "*" allows all
plans: { free: { models: [‸7] } } | plans.free.models[0] | must be text, not a number
plans: { free: { models: [chat, ‸""] } } | plans.free.models[1] | a glob such as qwen-*
plans: { free: { models: [‸"chat?"] } } | plans.free.models[0] | a glob such as qwen-*
plans: { free: { models: [‸chat@canary] } } | plans.free.models[0] | must not contain @: a plan allows a model, with all its arms
plans: { free: { models: [‸caht] } } | plans.free.models[0] | no model is called caht; did you mean chat?
plans: { free: { models: [‸gpt-4o-mni] } } | plans.free.models[0] | did you mean gpt-4o-mini?
plans: { free: { models: [chat, ‸llama] } } | plans.free.models[1] | no model is called llama; there are chat, other, gpt-4o-mini
plans: { free: { models: [‸"llama*"] } } | plans.free.models[0] | llama* matches no model; there are chat, other
plans: { free: { models: [‸"gpt-*"] } } | plans.free.models[0] | gpt-* matches no model; globs look at models' own names, and gpt-4o-mini is an alias of chat
plans: { free: { models: [chat, ‸chat] } } | plans.free.models[1] | chat is in this list already
plans: { free: { models: ["*", "c*", ‸"*"] } } | plans.free.models[2] | * is in this list already
billing: ‸EUR | billing | must be a map, not text
billing: { ‸curency: EUR } | billing.curency | did you mean currency?
billing: { currency: ‸eur } | billing.currency | write EUR, in capitals
billing: { currency: ‸€ } | billing.currency | the three letters of ISO 4217, e.g. EUR
billing: { currency: ‸EURO } | billing.currency | the three letters of ISO 4217
billing: { currency: ‸978 } | billing.currency | the three letters of ISO 4217
billing: { ‸timezone: UTC } | billing.timezone | did you mean time_zone?
billing: { time_zone: ‸Berlin } | billing.time_zone | the IANA name of a time zone, e.g. Europe/Berlin
billing: { time_zone: ‸Europe/Berln } | billing.time_zone | did you mean Europe/Berlin?
billing: { time_zone: ‸"+01:00" } | billing.time_zone | the IANA name of a time zone
billing: { time_zone: ‸"" } | billing.time_zone | the IANA name of a time zone
billing: { time_zone: ‸1 } | billing.time_zone | the IANA name of a time zone
webhooks: ‸ALERT_URL | webhooks | must be a list, not text
webhooks: [‸ALERT_URL] | webhooks[0] | must be a map, not text
webhooks: [‸{ events: [budget] }] | webhooks[0].url_secret | name a Worker secret in capitals
webhooks: [‸{ url_secret: ALERT_URL }] | webhooks[0].events | is missing
webhooks: [{ url_secret: ‸"https://hooks.example.com/hunter2", events: [budget] }] | webhooks[0].url_secret | the secret itself is never written here
webhooks: [{ ‸url: "https://hooks.example.com/hunter2", url_secret: ALERT_URL, events: [budget] }] | webhooks[0].url | known here: url_secret, events
webhooks: [{ url_secret: ‸ADMIN_TOKEN, events: [budget] }] | webhooks[0].url_secret | a binding of the router's own
webhooks: [{ url_secret: ‸DIRECTORY, events: [budget] }] | webhooks[0].url_secret | a binding of the router's own
webhooks: [{ url_secret: ‸KEY_SIGNING_SECRET, events: [budget] }] | webhooks[0].url_secret | a binding of the router's own
webhooks: [{ url_secret: ‸KEY_SIGNING_SECRET_OLD, events: [budget] }] | webhooks[0].url_secret | a binding of the router's own
webhooks: [{ url_secret: ALERT_URL, events: ‸budget }] | webhooks[0].events | must be a list, not text
webhooks: [{ url_secret: ALERT_URL, ‸events: [] }] | webhooks[0].events | needs at least one event
webhooks: [{ url_secret: ALERT_URL, events: [budget, ‸ejection] }] | webhooks[0].events[1] | ejection is not supported in this version; there is budget, guard
webhooks: [{ url_secret: ALERT_URL, events: [‸path-down] }] | webhooks[0].events[0] | path-down is not supported in this version; there is budget, guard
webhooks: [{ url_secret: ALERT_URL, events: [‸bugdet] }] | webhooks[0].events[0] | did you mean budget?
webhooks: [{ url_secret: ALERT_URL, events: [‸money] }] | webhooks[0].events[0] | write one of budget, guard
webhooks: [{ url_secret: ALERT_URL, events: [budget, ‸budget] }] | webhooks[0].events[1] | budget is in this list already
webhooks: [{ url_secret: A, events: [budget] }, { url_secret: ‸A, events: [budget] }] | webhooks[1].url_secret | another webhook has this url_secret already
auth: ‸jwt | auth | must be a map, not text
auth: { ‸jtw: {} } | auth.jtw | did you mean jwt?
`
  .trim()
  .split('\n')

/** The same inside `auth.jwt`, in place of one of its good lines. */
const JWT = {
  issuer: 'https://login.example.com/',
  audience: 'api',
  jwks_url: 'https://login.example.com/keys',
}
const IN_JWT = String.raw`
issuer: ‸http://login.example.com/ | issuer | an issuer is an https URL: write https://login.example.com
issuer: ‸http://127.0.0.1:8080/realm | issuer | an issuer is an https URL
issuer: ‸login.example.com | issuer | write a whole URL, e.g. https://login.example.com
issuer: ‸https://login.example.com/?a=b | issuer | leave out the query and the fragment
issuer: ‸https://user:hunter2@login.example.com/ | issuer | must not carry a user name or password
issuer: ‸7 | issuer | write a whole URL
audience: ‸"" | audience | write what its tokens say in aud
audience: ‸7 | audience | must be text, not a number
jwks_url: ‸http://login.example.com/keys | jwks_url | loopback and private addresses only
jwks_url: ‸https://login.example.com/keys#a | jwks_url | leave out the fragment
jwks_url: ‸/keys | jwks_url | write a whole URL, e.g. https://login.example.com/.well-known/jwks.json
tenant_claim: ‸"" | tenant_claim | name a claim, e.g. tenant
tenant_claim: ‸1 | tenant_claim | must be text, not a number
‸tenant: org | tenant | known here: issuer, audience, jwks_url, tenant_claim, clock_skew
clock_skew: ‸30 | clock_skew | write 30s, not 30
clock_skew: ‸301s | clock_skew | must be at most 5m
clock_skew: ‸-1s | clock_skew | write a duration as
‸clock_skw: 1s | clock_skw | did you mean clock_skew?
`
  .trim()
  .split('\n')

/** In a model, in place of its path. */
const IN_A_MODEL = String.raw`
price: ‸1 | price | must be a map, not a number
price: { ‸promt: 1, prompt: 1, completion: 1 } | price.promt | did you mean prompt?
‸price: { completion: 1 } | price.prompt | is missing
‸price: { prompt: 1 } | price.completion | is missing
price: { prompt: ‸-1, completion: 1 } | price.prompt | at least 0
price: { prompt: ‸1_000_001, completion: 1 } | price.prompt | at most 1000000
price: { prompt: 1, completion: ‸0.5€ } | price.completion | must be a number, not text
price: { prompt: 1, cached: ‸-0.1, completion: 1 } | price.cached | at least 0
‸prices: {} | prices | did you mean price?
`
  .trim()
  .split('\n')

const atTheTop = (text: string, file = GOOD): string =>
  file.replace('defaults:\n', `${text}\ndefaults:\n`)
const jwtOf = (fields: object): string =>
  `auth:\n  jwt:\n${Object.entries(fields)
    .map(([key, value]) => `    ${key}: ${value}\n`)
    .join('')}`.trimEnd()

describe('a single mistake in the terms is found where it stands', () => {
  it.each(AT_THE_TOP)('%s', (row) => {
    const [to, path, message, also] = row.split(' | ')
    const { found, expected } = mistakeIn(
      `defaults:\\n => ${to}\\ndefaults:\\n | ${path} | ${message}`,
    )
    expect(found).toEqual(
      also === undefined ? [expected] : [expected, expect.objectContaining({ path: also })],
    )
    expect(JSON.stringify(found)).not.toContain('hunter2')
  })

  it.each(IN_JWT)('in auth.jwt: %s', (row) => {
    const [written = '', path, message] = row.split(' | ')
    const [key = ''] = written.split(':')
    const lines = jwtOf({ ...JWT, [key]: written.slice(key.length + 2) }).replaceAll('\n', '\\n')
    const whole = `defaults:\\n => ${lines}\\ndefaults:\\n | auth.jwt.${path} | ${message}`
    const { found, expected } = mistakeIn(whole)
    expect(found).toEqual([expected])
    expect(JSON.stringify(found)).not.toContain('hunter2')
  })

  it.each(Object.keys(JWT))('auth.jwt needs its %s', (key) => {
    const { [key]: _, ...rest } = JWT as Record<string, string>
    expect(problemsOf(atTheTop(jwtOf(rest)))).toEqual([
      {
        path: `auth.jwt.${key}`,
        line: 8,
        column: 3,
        message: expect.stringContaining('is missing') as string,
      },
    ])
  })

  it.each(IN_A_MODEL)('in a model: %s', (row) => {
    const [to, path, message] = row.split(' | ')
    const whole = `path: /other => ${to} | models.other.${path} | ${message}`
    const { found, expected } = mistakeIn(whole)
    // That there is no currency is another matter.
    expect(found.filter((problem) => !problem.message.includes('billing.currency'))).toEqual([
      expected,
    ])
  })
})

it('is silent where all is well', () => {
  const whole = `plans:
  none: {}
  free: { models: [gpt-4o-mini, "oth*"], rpm: 1, tpm: 40_000, concurrency: 1, class: batch }
  pro: { models: ["*"], tokens_per_day: 1_000, tokens_per_month: 500_000_000, class: interactive, dry_run: true }
billing: { currency: EUR, time_zone: Europe/Berlin }
webhooks: [{ url_secret: ALERT_URL, events: [budget, guard] }, { url_secret: OTHER_URL, events: [guard] }]
${jwtOf({ ...JWT, tenant_claim: 'https://example.com/org', clock_skew: '5m' })}`
  const priced = GOOD.replace(
    'path: /other',
    'price: { prompt: 0, cached: 0.5, completion: 1_000_000 }',
  )
  expect(problemsOf(atTheTop(whole, priced))).toEqual([])
})

it.each([
  'billing: { time_zone: Asia/Kathmandu }',
  'billing: { currency: USD }',
  jwtOf({ ...JWT, jwks_url: 'http://127.0.0.1:9000/keys' }),
  jwtOf({ ...JWT, jwks_url: 'https://login.example.com/keys?p=policy' }),
  jwtOf({ ...JWT, clock_skew: '0s' }),
  'auth: {}',
  'webhooks: []',
  'plans: {}',
])('takes %s', (text) => {
  expect(problemsOf(atTheTop(text))).toEqual([])
})

it('reads digits in groups as the number they are', () => {
  const checked = checkFleet(
    atTheTop('plans: { p: { tpm: 40_000, tokens_per_month: 500_000_000 } }'),
  )
  expect(checked).toMatchObject({
    ok: true,
    fleet: { plans: { p: { tpm: 40_000, tokens_per_month: 500_000_000 } } },
  })
})

describe('a price', () => {
  const PRICE = 'price: { prompt: 1, completion: 2 }'
  const priced = GOOD.replace('path: /other', PRICE).replace('path: /chat-7b', PRICE)

  it('needs a currency, which is said once, at the first of them', () => {
    expect(problemsOf(priced)).toEqual([
      {
        path: 'models.chat.price',
        line: 25,
        column: 5,
        message:
          'a price needs a currency: write billing.currency, e.g. billing: { currency: EUR }',
      },
    ])
    expect(problemsOf(atTheTop('billing: { time_zone: UTC }', priced))).toHaveLength(1)
    expect(problemsOf(atTheTop('billing: { currency: EUR }', priced))).toEqual([])
  })

  it.each(['billing: { currency: eur }', 'billing: 5'])(
    'is not said to lack a currency where %s is refused already',
    (billing) => {
      const paths = problemsOf(atTheTop(billing, priced)).map(({ path }) => path)
      expect(paths).toEqual([billing.endsWith('5') ? 'billing' : 'billing.currency'])
    },
  )
})

describe('the models of a plan', () => {
  const PLAN = 'plans: { free: { models: [nobody, "no*"] } }'

  it('are not looked for among models that are refused', () => {
    const text = atTheTop(PLAN).replace(/models:\n[\s\S]*$/, 'models: 5\n')
    expect(problemsOf(text).map(({ path }) => path)).toEqual(['models'])
  })

  it('may be aliases of a list that is refused, but globs may not', () => {
    const text = atTheTop(PLAN).replace('aliases: [gpt-4o-mini]', 'aliases: 5')
    expect(problemsOf(text).map(({ path }) => path)).toEqual([
      'plans.free.models[1]',
      'models.chat.aliases',
    ])
  })

  it('are refused as well where one alias of a list is', () => {
    const text = atTheTop(PLAN).replace('[gpt-4o-mini]', '[gpt-4o-mini, "*"]')
    expect(problemsOf(text).map(({ path }) => path)).toEqual([
      'plans.free.models[0]',
      'plans.free.models[1]',
      'models.chat.aliases[1]',
    ])
  })
})

it('finds twenty mistakes in the terms in one run, in the order of their lines', () => {
  const text = `${GOOD}    price: { prompt: -1, completion: 2, total: 3 }
plans:
  Free:
    rpm: 60/min
    tpm: 0
    concurrency: 1.5
    tokens_per_day: 5k
    tokens_per_month: -1
    class: gold
    dry_run: 1
    models: [nobody, "no*", a@b, chat, chat]
    burst: 5
billing:
  currency: euro
  time_zone: Berlin
webhooks:
  - { url_secret: hook, events: [budget, ejection, budget] }
auth:
  jwt:
    issuer: http://login.example.com
    jwks_url: ftp://login.example.com
    clock_skew: 1h
`.replace(
    '  other: { path: /other, arms: [{ pool: direct }] }',
    '  other:\n    arms: [{ pool: direct }]',
  )
  const problems = problemsOf(text)
  expect(problems.map(({ path }) => path)).toEqual([
    'models.other.price.prompt',
    'models.other.price.total',
    'plans.Free',
    'plans.Free.rpm',
    'plans.Free.tpm',
    'plans.Free.concurrency',
    'plans.Free.tokens_per_day',
    'plans.Free.tokens_per_month',
    'plans.Free.class',
    'plans.Free.dry_run',
    'plans.Free.models[0]',
    'plans.Free.models[1]',
    'plans.Free.models[2]',
    'plans.Free.models[4]',
    'plans.Free.burst',
    'billing.currency',
    'billing.time_zone',
    'webhooks[0].url_secret',
    'webhooks[0].events[1]',
    'webhooks[0].events[2]',
    'auth.jwt.audience',
    'auth.jwt.issuer',
    'auth.jwt.jwks_url',
    'auth.jwt.clock_skew',
  ])
  const lines = problems.map(({ line }) => line)
  expect(lines).toEqual(lines.toSorted((a, b) => a - b))
})
