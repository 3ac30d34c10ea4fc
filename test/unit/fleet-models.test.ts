import { describe, expect, it } from 'vitest'
import { GOOD, mistakeIn, problemsOf } from './fleet-mistake.ts'

/** In model `other`, in place of its path: what is written, `‸` where the mistake is | its path | part of the message. */
const IN_A_MODEL = String.raw`
hosts: ‸qwen.example.com | hosts | must be a list, not text
hosts: [‸7] | hosts[0] | write a host name, e.g. qwen.api.example.com
hosts: [‸""] | hosts[0] | write a host name
hosts: [‸"a b"] | hosts[0] | write a host name
hosts: [‸Qwen.Example.com] | hosts[0] | in lower case: qwen.example.com
hosts: [‸"qwen.example.com:8443"] | hosts[0] | write only the host, in lower case: qwen.example.com
hosts: [‸"https://qwen.example.com"] | hosts[0] | write only the host, in lower case: qwen.example.com
hosts: [‸qwen.example.com/v1] | hosts[0] | write only the host
hosts: [‸"*.example.com"] | hosts[0] | write each host out
hosts: [‸qwen.example.com.] | hosts[0] | write a host name
hosts: [a.example.com, ‸a.example.com] | hosts[1] | a.example.com is in this list already
hosts: [‸chat.example.com] | hosts[0] | chat.example.com means model chat already; a host means one model
aliases: [‸"*"] | aliases[0] | would take every name that somebody mistypes
aliases: [‸"*/*"] | aliases[0] | would take every name
aliases: [‸"a**"] | aliases[0] | write it once
aliases: [‸"a*@canary"] | aliases[0] | must not contain @
aliases: [‸"a* b"] | aliases[0] | beside *
aliases: [‸"gpt-*"] | aliases[0] | gpt-* is an alias of model chat already
aliases: [‸"a b"] | aliases[0] | use letters, digits
fallback: [‸gpt-5] | fallback[0] | gpt-5 is an alias; write the model's name, chat
sticky: ‸tenants | sticky | did you mean tenant?
sticky: ‸user | sticky | write one of tenant+user, tenant, session
keep_arm: ‸10 | keep_arm | write 10s, not 10
keep_arm: ‸25h | keep_arm | must be at most 24h
keep_arm: ‸off | keep_arm | write a duration as 250ms
guard: ‸on | guard | must be a map, not text
‸guard: {} | guard | has nothing to compare: it measures every arm but the first
shadow: ‸chat | shadow | must be a map, not text
shadow: { pool: ‸cht, share: 1 } | shadow.pool | no pool is called cht; did you mean chat?
shadow: { pool: ‸direct, share: 1 } | shadow.pool | is where the requests go already
shadow: { pool: chat, share: ‸0 } | shadow.share | over 0 and at most 1, e.g. 0.1
shadow: { pool: chat, share: ‸1.1 } | shadow.share | over 0 and at most 1
shadow: { pool: chat, share: ‸10% } | shadow.share | over 0 and at most 1
‸shadow: { pool: chat } | shadow.share | over 0 and at most 1
‸shadow: { share: 1 } | shadow.pool | is missing
shadow: { pool: chat, share: 1, ‸arm: a } | shadow.arm | known here: pool, share
‸rules: {} | rules | must be a list, not a map
rules: [‸{ arm: stable }] | rules[0].when | is missing
rules: [‸{ when: { tools: true } }] | rules[0] | leads nowhere; write one of arm: canary
rules: [‸{ when: { tools: true }, arm: stable, model: chat }] | rules[0] | has arm and model: keep the one
rules: [‸{ when: { tools: true }, arm: stable, arms: { stable: 1 }, model: chat }] | rules[0] | has arm and arms and model
rules: [{ ‸when: {}, arm: stable }] | rules[0].when | every request would meet it: give the model's arms these weights
rules: [{ when: { ‸header: {} }, arm: stable }] | rules[0].when.header | needs at least one header
rules: [{ when: { tools: true }, arm: ‸stabel }] | rules[0].arm | no arm of other is called stabel; did you mean stable?
rules: [{ when: { tools: true }, arm: ‸Stable }] | rules[0].arm | lowercase letters
rules: [{ when: { tools: true }, arms: { stable: 1, ‸canary: 1 } }] | rules[0].arms.canary | no arm of other is called canary; there are stable
rules: [{ when: { tools: true }, ‸arms: { stable: 0 } }] | rules[0].arms | gives no arm a weight above 0
rules: [{ when: { tools: true }, ‸arms: {} }] | rules[0].arms | gives no arm a weight above 0
rules: [{ when: { tools: true }, arms: { stable: ‸-1 } }] | rules[0].arms.stable | at least 0
rules: [{ when: { tools: true }, model: ‸other }] | rules[0].model | leads to its own model
rules: [{ when: { tools: true }, model: ‸chta }] | rules[0].model | no model is called chta; did you mean chat?
rules: [{ when: { tools: true }, model: ‸gpt-4o-mini }] | rules[0].model | is an alias; write the model's name, chat
rules: [{ when: { tools: true }, model: ‸gpt-5 }] | rules[0].model | is an alias; write the model's name, chat
rules: [{ when: { tools: true }, model: ‸chat@canary }] | rules[0].model | must not contain @
rules: [{ when: { ‸tool: true }, arm: stable }] | rules[0].when.tool | did you mean tools?
rules: [{ when: { tools: ‸yes }, arm: stable }] | rules[0].when.tools | must be true or false, not text
rules: [{ when: { prompt_tokens_over: ‸0 }, arm: stable }] | rules[0].when.prompt_tokens_over | at least 1
rules: [{ when: { prompt_tokens_over: ‸6k }, arm: stable }] | rules[0].when.prompt_tokens_over | a number, not text
rules: [{ when: { tenant: ‸7 }, arm: stable }] | rules[0].when.tenant | must be text, not a number
rules: [{ when: { tenant: ‸"*" }, arm: stable }] | rules[0].when.tenant | a tenant's id, e.g. acme
rules: [{ when: { tenant: [acme, ‸Acme] }, arm: stable }] | rules[0].when.tenant[1] | lowercase letters, digits and dashes
rules: [{ when: { tenant: [acme, ‸7] }, arm: stable }] | rules[0].when.tenant[1] | must be text, not a number
rules: [{ when: { ‸tenant: [] }, arm: stable }] | rules[0].when.tenant | needs at least one text
rules: [{ when: { user: ‸"a*b" }, arm: stable }] | rules[0].when.user | * stands at the end alone
rules: [{ when: { user: [‸""] }, arm: stable }] | rules[0].when.user[0] | write a text
rules: [{ when: { key: ‸psk_acme_k1_hunter2_mac }, arm: stable }] | rules[0].when.key | never the key itself
rules: [{ when: { plan: ‸por }, arm: stable }] | rules[0].when.plan | no plan is called por; did you mean pro?
rules: [{ when: { plan: [pro, ‸"fre-*"] }, arm: stable }] | rules[0].when.plan[1] | fre-* is the beginning of no plan; there are pro, free
rules: [{ when: { header: { ‸X-Version: a } }, arm: stable }] | rules[0].when.header.X-Version | write it in lower case: x-version
rules: [{ when: { header: { ‸"x version": a } }, arm: stable }] | rules[0].when.header."x version" | is no name of a header
rules: [{ when: { header: { ‸Authorization: "Bearer hunter2*" } }, arm: stable }] | rules[0].when.header.Authorization | keys must not stand in this file
rules: [{ when: { header: { ‸x-api-key: hunter2 } }, arm: stable }] | rules[0].when.header.x-api-key | keys must not stand in this file
rules: [{ when: { header: { ‸cookie: hunter2 } }, arm: stable }] | rules[0].when.header.cookie | keys must not stand in this file
rules: [{ when: { header: { x-a: ‸"a*b" } }, arm: stable }] | rules[0].when.header.x-a | * stands at the end alone
rules: [{ when: { header: { ‸x-a: [] } }, arm: stable }] | rules[0].when.header.x-a | needs at least one text
rules: [{ when: { tools: true, stream: true }, arm: stable }, { ‸when: { stream: true, tools: true }, model: chat }] | rules[1].when | rules[0] has the same when
rules: [{ when: { user: [a, b], header: { x-a: c } }, arm: stable }, { ‸when: { header: { x-a: [c] }, user: [b, a] }, model: chat }] | rules[1].when | this one is never reached
`
  .trim()
  .split('\n')

/** The same in an arm of the model with two arms. */
const IN_AN_ARM = String.raw`
adapter: ‸"" | adapter | a name of --lora-modules
adapter: ‸7 | adapter | must be text, not a number
adapter: ‸Chat-7B | adapter | is what pool chat serves without an adapter
`
  .trim()
  .split('\n')

/** The same in the guard of the model with two arms. */
const IN_A_GUARD = String.raw`
window: ‸5s | window | at least 10s and at most 1h
window: ‸2h | window | at least 10s and at most 1h
window: ‸120 | window | write 120s, not 120
min_requests: ‸9 | min_requests | at least 10: among fewer
min_requests: ‸10.5 | min_requests | a whole number
error_ratio_over: ‸5 | error_ratio_over | a share from 0 to 1, e.g. 0.05, or off
error_ratio_over: ‸-0.1 | error_ratio_over | a share from 0 to 1
error_ratio_over: ‸5% | error_ratio_over | a share from 0 to 1
error_ratio_over: ‸false | error_ratio_over | or off
error_ratio_over: ‸null | error_ratio_over | or off
empty_ratio_over: ‸1.01 | empty_ratio_over | a share from 0 to 1
ttft_p95_times: ‸1 | ttft_p95_times | a number over 1 and at most 100, e.g. 1.5, or off
ttft_p95_times: ‸101 | ttft_p95_times | at most 100
inter_token_p95_times: ‸0.5 | inter_token_p95_times | over 1
inter_token_p95_times: ‸"2" | inter_token_p95_times | a number over 1
‸errors: 1 | errors | known here: window, min_requests, error_ratio_over
`
  .trim()
  .split('\n')

const PLANS = 'plans: { pro: {}, free: {} }\n'
const FILE = `${PLANS}${GOOD}`
  .replace('aliases: [gpt-4o-mini]', 'aliases: [gpt-4o-mini, "gpt-*"]')
  .replace('    path: /chat-7b\n', '    hosts: [chat.example.com]\n')

const inOther = (text: string): string => FILE.replace('path: /other', text)

describe('a single mistake in a model is found where it stands', () => {
  it.each(IN_A_MODEL)('%s', (row) => {
    const [to, path, message] = row.split(' | ')
    const { found, expected } = mistakeIn(
      `path: /other => ${to} | models.other.${path} | ${message}`,
      FILE,
    )
    expect(found).toEqual([expected])
    expect(JSON.stringify(found)).not.toContain('hunter2')
  })

  it.each(IN_AN_ARM)('in an arm: %s', (row) => {
    const [to, path, message] = row.split(' | ')
    const change = `pool: chat, weight: 95 => pool: chat, weight: 95, ${to}`
    const { found, expected } = mistakeIn(
      `${change} | models.chat.arms[0].${path} | ${message}`,
      FILE,
    )
    expect(found).toEqual([expected])
  })

  it.each(IN_A_GUARD)('in a guard: %s', (row) => {
    const [to, path, message] = row.split(' | ')
    const change = `    arms:\\n =>     guard: { ${to} }\\n    arms:\\n`
    const { found, expected } = mistakeIn(
      `${change} | models.chat.guard.${path} | ${message}`,
      FILE,
    )
    expect(found).toEqual([expected])
  })
})

describe('a name of a model', () => {
  it('is no glob: that goes into its aliases', () => {
    const { found, expected } = mistakeIn(
      '  other: =>   ‸"o*": | models."o*" | a glob such as claude-* is an alias of it',
    )
    expect(found).toEqual([expected])
  })

  it.each([
    ['globs that overlap', '"gpt-4*"', '"*-mini"'],
    ['a glob that matches the name of another model', '"cha*"', '"c*"'],
    ['a glob within a glob, and one that matches an alias', '"gpt-4o-*"', '"g*"'],
    ['globs with several stars, slashes and colons', '"org/*:*"', '"*/llama-*"'],
  ])('may be covered by %s', (_, one, other) => {
    expect(problemsOf(inOther(`aliases: [${one}, ${other}]`))).toEqual([])
  })
})

it.each([
  'rules: []',
  'rules: [{ when: { header: { x-a: "*" } }, arm: stable }]',
  'rules: [{ when: { header: { x-a: a, x-b: ["b*", c] }, plan: "f*" }, arms: { stable: 1 } }]',
  'rules: [{ when: { tenant: acme }, arm: stable }, { when: { tenant: acme, tools: false }, arm: stable }]',
  'rules: [{ when: { key: "K1*", images: false }, model: chat }]',
  'hosts: [other.example.com, localhost]',
  'sticky: session, keep_arm: 0s',
  'shadow: { pool: chat, share: 1 }',
])('takes %s', (text) => {
  expect(problemsOf(inOther(text))).toEqual([])
})

it('has no arm called shadow beside a shadow: the figures of both would be one', () => {
  const named = (shadow: string) => FILE.replace('name: canary }', `name: shadow }${shadow}`)
  expect(problemsOf(named(''))).toEqual([])
  expect(problemsOf(named('\n    shadow: { pool: direct, share: 1 }'))).toMatchObject([
    {
      path: 'models.chat.arms[1].name',
      message: 'shadow is what the figures call the copies; give this arm another name',
    },
  ])
})

it('takes a guard that looks at one thing alone, but none that looks at nothing', () => {
  const guarded = (fields: string) =>
    FILE.replace('    arms:\n', `    guard: {${fields}}\n    arms:\n`)
  const most = 'error_ratio_over: off, empty_ratio_over: off, ttft_p95_times: off'
  expect(problemsOf(guarded(most))).toEqual([])
  expect(problemsOf(guarded(`${most}, inter_token_p95_times: off`))).toMatchObject([
    { path: 'models.chat.guard', message: expect.stringContaining('looks at nothing') as string },
  ])
})

describe('an adapter', () => {
  const arms = (second: string, more = '') =>
    inOther(`${more}aliases: []`).replace(
      'arms: [{ pool: direct }]',
      `arms: [{ pool: direct }, { pool: direct${second} }]`,
    )

  it('makes a second arm of a pool, which needs a name of its own where two go by the pool', () => {
    expect(problemsOf(arms(', adapter: support'))).toEqual([])
    const third = arms(', adapter: support }, { pool: direct, adapter: sales')
    expect(problemsOf(third)).toMatchObject([
      {
        path: 'models.other.arms[2].pool',
        message: 'two arms of this model are called direct; give one of them another name',
      },
    ])
    expect(problemsOf(third.replace('adapter: sales', 'adapter: sales, name: sales'))).toEqual([])
  })

  it('may be compared with the model that it is put on, by a shadow', () => {
    const shadowed = inOther('shadow: { pool: direct, share: 0.1 }').replace(
      'arms: [{ pool: direct }]',
      'arms: [{ pool: direct, adapter: support }]',
    )
    expect(problemsOf(shadowed)).toEqual([])
  })
})

it.each([
  ['arms that are refused', 'arms: [{ pool: 7 }]', 'models.other.arms[0].pool'],
  [
    'an arm whose name is refused',
    'arms: [{ pool: direct, name: A }]',
    'models.other.arms[0].name',
  ],
])('says nothing of the arms of rules beside %s', (_, arms, path) => {
  const text = inOther('rules: [{ when: { tools: true }, arm: beta }]').replace(
    'arms: [{ pool: direct }]',
    arms,
  )
  expect(problemsOf(text).map((problem) => problem.path)).toEqual([path])
})

it('says nothing of plans beside plans that are refused', () => {
  const text = inOther('rules: [{ when: { plan: gold }, arm: stable }]')
  expect(problemsOf(text.replace(PLANS, 'plans: 5\n')).map(({ path }) => path)).toEqual(['plans'])
  expect(problemsOf(text.replace(PLANS, ''))).toMatchObject([
    { message: 'no plan is called gold; there are none' },
  ])
})

it('says nothing of two conditions with the same mistake', () => {
  const twice = inOther(
    'rules: [{ when: { tenant: 7 }, arm: stable }, { when: { tenant: 8 }, arm: stable }]',
  )
  expect(problemsOf(twice).map(({ path }) => path)).toEqual([
    'models.other.rules[0].when.tenant',
    'models.other.rules[1].when.tenant',
  ])
})

it('looks below a header and an arm whose names are refused', () => {
  const text = inOther('rules: [{ when: { header: { X-A: 7 } }, arms: { Stable: x } }]')
  expect(problemsOf(text).map(({ path }) => path)).toEqual([
    'models.other.rules[0].when.header.X-A',
    'models.other.rules[0].when.header.X-A',
    'models.other.rules[0].arms.Stable',
    'models.other.rules[0].arms.Stable',
    'models.other.rules[0].arms.Stable',
  ])
})

it('finds twenty mistakes in one model in one run, in the order of their lines', () => {
  const text = FILE.replace(
    '  other: { path: /other, arms: [{ pool: direct }] }\n',
    `  other:
    hosts: [chat.example.com, UP.example.com]
    aliases: ["*", "gpt-*"]
    arms:
      - { pool: direct, adapter: Direct-7B }
    sticky: users
    keep_arm: 10
    rules:
      - { arm: stable }
      - { when: {}, arm: canary }
      - { when: { tools: true } }
      - { when: { header: { Cookie: a } }, arms: { stable: 0 } }
      - { when: { tenant: A, plan: gold }, model: other }
      - { when: { user: "a*b", prompt_tokens_over: 0 }, model: nobody }
    guard: { window: 1s, min_requests: 1, error_ratio_over: 5, ttft_p95_times: 1 }
    shadow: { pool: direct, share: 2 }
`,
  )
  const problems = problemsOf(text)
  expect(problems.map(({ path }) => path.replace('models.other.', ''))).toEqual([
    'hosts[0]',
    'hosts[1]',
    'aliases[0]',
    'aliases[1]',
    'arms[0].adapter',
    'sticky',
    'keep_arm',
    'rules[0].when',
    'rules[1].when',
    'rules[1].arm',
    'rules[2]',
    'rules[3].when.header.Cookie',
    'rules[3].arms',
    'rules[4].when.tenant',
    'rules[4].when.plan',
    'rules[4].model',
    'rules[5].when.user',
    'rules[5].when.prompt_tokens_over',
    'rules[5].model',
    'guard',
    'guard.window',
    'guard.min_requests',
    'guard.error_ratio_over',
    'guard.ttft_p95_times',
    'shadow.share',
  ])
})
