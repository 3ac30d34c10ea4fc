import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { GOOD, mistakeIn, problemsOf } from './fleet-mistake.ts'

const EXAMPLE = readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8')

/** Rows as {@link mistakeIn} reads them. */
const MISTAKES = String.raw`
region: apac => ‸regoin: apac | sites.sha.regoin | unknown key regoin; did you mean region?
defaults:\n => ‸receipt: true\ndefaults:\n | receipt | did you mean receipts?
    served_as: Chat =>     ‸qqqqqq: 1\n    served_as: Chat | pools.chat.qqqqqq | known here: served_as, instances
  policy: least_inflight =>   early_commit: ‸101s | defaults.early_commit | at most 100s: after that, proxies
  policy: least_inflight =>   early_commit: ‸15 | defaults.early_commit | write 15s, not 15
  policy: least_inflight =>   reasoning_field: ‸raesoning | defaults.reasoning_field | did you mean reasoning?
  policy: least_inflight =>   ‸early_comit: 5s | defaults.early_comit | did you mean early_commit?
  policy: least_inflight =>   media: { domains: [‸"https://media.example.com/a"] } | defaults.media.domains[0] | write only the host: media.example.com
  policy: least_inflight =>   media: { domains: [‸media.example.com/a] } | defaults.media.domains[0] | write only the host: media.example.com
  policy: least_inflight =>   media: { domains: ["a.example.com", ‸"*.example.com:8443"] } | defaults.media.domains[1] | write only the host: *.example.com
  policy: least_inflight =>   media: { domains: [‸"*"] } | defaults.media.domains[0] | write a host name
  policy: least_inflight =>   media: { domains: [‸"a.*.com"] } | defaults.media.domains[0] | write a host name
  policy: least_inflight =>   media: { domains: ‸all } | defaults.media.domains | must be a list, not text
limits: { body: 16MiB } => limits: { audio: ‸26MB } | defaults.limits.audio | write 26MiB
limits: { body: 16MiB } => limits: { audio: ‸65MiB } | defaults.limits.audio | at most 64MiB
limits: { body: 16MiB } => limits: { n: ‸0 } | defaults.limits.n | at least 1
limits: { body: 16MiB } => limits: { n: ‸1.5 } | defaults.limits.n | a whole number
limits: { body: 16MiB } => limits: { output_tokens: ‸8k } | defaults.limits.output_tokens | must be a number, not text
  policy: least_inflight =>   ‸guard: { window: 2m } | defaults.guard | unknown key guard; known here: policy
port: 8001 }\n      - => port: 8001, ‸gpus: [0] }\n      - | pools.chat.instances[0].gpus | gpus is not supported
key_env: VLLM_KEY => ‸grpc_port: 8002 | pools.direct.instances[0].grpc_port | either site and port, or url
id: chat-1, site: sha, port: 8001 => id: chat-1, site: sha, port: 8001, ‸last_resort: true | pools.chat.instances[0].last_resort | last_resort goes with url alone
id: chat-1, site: sha, port: 8001 => id: chat-1, site: sha, port: 8001, grpc_port: ‸8001 | pools.chat.instances[0].grpc_port | is the same as port
id: chat-1, site: sha, port: 8001 => id: chat-1, site: sha, port: 8001, grpc_port: ‸0 | pools.chat.instances[0].grpc_port | at least 1
host: 10.0.0.12, port: 8001 => host: 127.0.0.1, port: 8002, grpc_port: ‸8001 | pools.chat.instances[1].grpc_port | instance chat-1 is at this site, host and port already
id: chat-1, site: sha, port: 8001 => id: chat-1, site: sha, port: 8001, slots: ‸.inf | pools.chat.instances[0].slots | must be a number, not .inf
id: chat-1, site: sha, port: 8001 => id: chat-1, site: sha, port: 8001, weight: ‸.nan | pools.chat.instances[0].weight | must be a number, not .nan
key_env: VLLM_KEY => last_resort: ‸yes | pools.direct.instances[0].last_resort | must be true or false, not text
key_env: VLLM_KEY } => key_env: VLLM_KEY }\n      - { id: far, url: ‸"https://api.example.com", key_env: FAR_KEY } | pools.direct.instances[1].url | add last_resort: true
key_env: VLLM_KEY } => key_env: VLLM_KEY }\n      - { id: far, url: ‸"http://api.example.com", key_env: FAR_KEY, last_resort: true } | pools.direct.instances[1].url | loopback and private addresses only
    instances:\n      - { id: direct-1 =>     ‸instances:\n      - { last_resort: true, id: direct-1 | pools.direct.instances | at least one that is not
path: /other => fallback: [chat, ‸ohter] | models.other.fallback[1] | no model is called ohter; did you mean other?
path: /other => fallback: [‸other] | models.other.fallback[0] | cannot be its own fallback
path: /other => fallback: [chat, ‸chat] | models.other.fallback[1] | chat is in this list already
path: /other => fallback: [‸gpt-4o-mini] | models.other.fallback[0] | is an alias; write the model's name, chat
path: /other => fallback: [‸1] | models.other.fallback[0] | must be text, not a number
key_env: VLLM_KEY => ‸port: 8002 | pools.direct.instances[0].port | either site and port, or url
served_as: Chat-7B => served_as: ‸7 | pools.chat.served_as | must be text, not a number
chat:\n    served_as: Chat-7B\n => ‸chat:\n | pools.chat.served_as | is missing
served_as: Chat-7B => served_as: ‸"" | pools.chat.served_as | the name that vLLM knows
served_as: Chat-7B => served_as: ‸"a\0b" | pools.chat.served_as | a character in it that nobody can see
served_as: Chat-7B => served_as: ‸"a\x0Ab" | pools.chat.served_as | a character in it that nobody can see
served_as: Chat-7B => served_as: ‸"a\u202eb" | pools.chat.served_as | a character in it that nobody can see
served_as: Chat-7B => served_as: ‸"a\ud800b" | pools.chat.served_as | a character in it that nobody can see
weight: 95 } => weight: 95, adapter: ‸"a\0b" } | models.chat.arms[0].adapter | a character in it that nobody can see
port: 8001 }\n      - { id: chat-2 => port: ‸80010 }\n      - { id: chat-2 | pools.chat.instances[0].port | at most 65535
limits: { body: 16MiB } => limits:‸ | defaults.limits | must be a map, not nothing
every: 5s => every: ‸5 | defaults.health.every | write 5s, not 5
every: 5s => every: ‸5 s | defaults.health.every | 250ms, 5s, 10m or 1h
body: 16MiB => body: ‸16MB | defaults.limits.body | write 16MiB
body: 16MiB => body: ‸16 | defaults.limits.body | write 16MiB, not 16
body: 16MiB => body: ‸1GiB | defaults.limits.body | at most 64MiB
region: apac => region: ‸apca | sites.sha.region | did you mean apac?
https://gpu-a.example.com => ‸http://gpu-a.example.com | sites.sha.origin | loopback and private addresses only
https://gpu-a.example.com => ‸https://gpu-a.example.com/x | sites.sha.origin | leave out the path
https://gpu-a.example.com => ‸https://gpu-a.example.com?x=1 | sites.sha.origin | leave out the query
origin: https://gpu-a.example.com => ‸origin: [https://a.example.com] | sites.sha.origin | one https URL; a list
host: 10.0.0.12 => host: ‸7 | pools.chat.instances[1].host | write an IP address
host: 10.0.0.12 => host: ‸null | pools.chat.instances[1].host | write an IP address
host: 10.0.0.12 => host: ‸gpu-2.local | pools.chat.instances[1].host | write an IP address
"http://127.0.0.1:9001" => ‸"http://8.8.8.8:9001" | pools.direct.instances[0].url | loopback and private addresses only
"http://127.0.0.1:9001" => ‸"https://api.example.com" | pools.direct.instances[0].url | as its last resort only
id: chat-1 => id: ‸Chat_1 | pools.chat.instances[0].id | lowercase letters, digits and dashes
aliases: [gpt-4o-mini] => aliases: [‸"*"] | models.chat.aliases[0] | every name that somebody mistypes
  other: =>   ‸a@b: | models."a@b" | must not contain @
path: /other => path: ‸other | models.other.path | write a path such as /qwen
    instances:\n      - { id: direct-1, url: "http://127.0.0.1:9001", key_env: VLLM_KEY } =>     ‸instances: [] | pools.direct.instances | at least one instance
pool: chat, weight => pool: ‸chta, weight | models.chat.arms[0].pool | no pool is called chta; did you mean chat?
{ id: chat-1, site: sha => { id: chat-1, site: ‸hsa | pools.chat.instances[0].site | no site is called hsa; did you mean sha?
host: 10.0.0.12, port: 8 => host: 127.0.0.1, port: ‸8 | pools.chat.instances[1].port | instance chat-1 is at this site, host and port already
id: direct-1 => id: ‸chat-1 | pools.direct.instances[0].id | is in pool chat already
path: /other => aliases: [‸gpt-4o-mini] | models.other.aliases[0] | alias of model chat already
[gpt-4o-mini] => [‸other] | models.chat.aliases[0] | the name of a model already
arms: [{ pool: direct }] => ‸arms: [] | models.other.arms | at least one arm
name: canary => name: ‸stable | models.chat.arms[1].name | two arms of this model are called stable
arms: [{ pool: direct }] => ‸arms: [{ pool: direct, weight: 0 }] | models.other.arms | every arm has weight 0
path: /other => path: ‸/chat-7b | models.other.path | model chat has this path already
path: /other => path: ‸/chat-7b/long | models.other.path | overlaps with /chat-7b of model chat
path: /other => path: ‸/admin | models.other.path | one of the API's own paths
path: /other => path: ‸/x/chat | models.other.path | one of the API's own paths
first_byte: 90s => first_byte: ‸111s | defaults.timeouts.first_byte | at most 110s for pool chat
idle: 60s => idle: ‸2m | defaults.timeouts.idle | at most 110s for pool chat
90s, idle: 60s, total: 30m => ‸90s, idle: 60s, total: 80s | defaults.timeouts.first_byte | first_byte (90s) is longer than total (80s)
timeout: 2s => timeout: ‸5s | defaults.health.timeout | must be shorter than health.every (5s)
`
  .trim()
  .split('\n')

it('accepts the example file and the small file', () => {
  expect(problemsOf(EXAMPLE)).toEqual([])
  expect(problemsOf(GOOD)).toEqual([])
})

it('reads digit groups, missing sites and missing defaults', () => {
  const text = `pools: { p: { served_as: m, instances: [{ id: a, url: "http://127.0.0.1:8001", slots: 1_000 }] } }
models: { m: { arms: [{ pool: p }] } }`
  const checked = checkFleet(text)
  expect(checked).toMatchObject({
    ok: true,
    fleet: { sites: {}, pools: { p: { instances: [{ slots: 1000, weight: 1 }] } } },
  })
})

describe('a single mistake is found where it stands', () => {
  it.each(MISTAKES)('%s', (row) => {
    const { found, expected } = mistakeIn(row)
    expect(found).toEqual([expected])
  })
})

it('allows long silences in a pool that is called directly', () => {
  const slow = GOOD.replace(
    '    served_as: Direct-7B',
    '    timeouts: { first_byte: 10m, idle: 5m }\n    served_as: Direct-7B',
  )
  expect(problemsOf(slow)).toEqual([])
})

it('takes a hosted service as the last resort, with a key', () => {
  const service = (fields: string): string =>
    GOOD.replace(
      'key_env: VLLM_KEY }',
      `key_env: VLLM_KEY }\n      - { id: far, url: "https://api.example.com/v2", ${fields} }`,
    )
  expect(problemsOf(service('key_env: FAR_KEY, last_resort: true'))).toEqual([])
  expect(problemsOf(service('last_resort: true'))).toMatchObject([
    {
      path: 'pools.direct.instances[1].key_env',
      line: 22,
      message: expect.stringContaining('key_env is missing') as string,
    },
  ])
})

it('takes a vLLM without a key as the last resort, at a private address', () => {
  const spare = GOOD.replace(
    'key_env: VLLM_KEY }',
    'key_env: VLLM_KEY }\n      - { id: spare, url: "http://10.0.0.9:8001", last_resort: true }',
  )
  expect(problemsOf(spare)).toEqual([])
})

it('takes the same ports on another host or at another site', () => {
  const text = GOOD.replace('port: 8001 }', 'port: 8001, grpc_port: 9001 }').replace(
    'host: 10.0.0.12, port: 8001',
    'host: 10.0.0.12, port: 8001, grpc_port: 9001',
  )
  expect(problemsOf(text)).toEqual([])
})

it('says nothing of fallbacks and last resorts that are refused themselves', () => {
  const text = GOOD.replace('path: /other', 'fallback: [7, chat]').replace(
    'key_env: VLLM_KEY',
    'last_resort: 1',
  )
  expect(problemsOf(text).map(({ path }) => path)).toEqual([
    'pools.direct.instances[0].last_resort',
    'models.other.fallback[0]',
  ])
})

it('lets a pool override one field and keeps the other defaults', () => {
  const pool = GOOD.replace(
    '    served_as: Chat-7B',
    '    timeouts: { total: 50s }\n    served_as: Chat-7B',
  )
  expect(problemsOf(pool)).toMatchObject([
    { path: 'pools.chat.timeouts.total', message: 'first_byte (90s) is longer than total (50s)' },
    { path: 'pools.chat.timeouts.total', message: 'idle (60s) is longer than total (50s)' },
  ])
})

it('allows a site without node_key on a loopback origin only', () => {
  expect(problemsOf(GOOD.replace('    node_key: NODE_KEY\n', ''))).toMatchObject([
    {
      path: 'sites.sha.node_key',
      line: 2,
      message: expect.stringContaining('anybody could reach vLLM') as string,
    },
  ])
  const local = GOOD.replace('https://gpu-a.example.com', 'http://127.0.0.1:8080').replace(
    '    node_key: NODE_KEY\n',
    '',
  )
  expect(problemsOf(local)).toEqual([])
})

it('refuses the same url twice, however it is written', () => {
  const twice = GOOD.replace(
    'key_env: VLLM_KEY }',
    'key_env: VLLM_KEY }\n      - { id: direct-2, url: "http://127.0.0.1:9001/" }',
  )
  expect(problemsOf(twice)).toMatchObject([{ path: 'pools.direct.instances[1].url', line: 22 }])
})

it('never repeats what was written where the name of a secret belongs', () => {
  const text = GOOD.replace('ACCESS_SECRET', 'sk-hunter2')
    .replace('VLLM_KEY', 'hf_hunter2')
    .replace('node_key: NODE_KEY', 'node_key: ADMIN_TOKEN')
  const problems = problemsOf(text)
  expect(problems.map(({ path }) => path)).toEqual([
    'sites.sha.access.secret',
    'sites.sha.node_key',
    'pools.direct.instances[0].key_env',
  ])
  expect(JSON.stringify(problems)).not.toContain('hunter2')
  expect(problems[1]?.message).toContain("binding of the router's own")
})

it('keeps every binding of wrangler.toml to the router', () => {
  const toml = readFileSync(new URL('../../wrangler.toml', import.meta.url), 'utf8')
  const bindings = toml.matchAll(/"([A-Z_]{3,})"|\b([A-Z_]{3,}) =/g)
  const names = new Set(Array.from(bindings, ([, text, key]) => text ?? key!))
  expect([...names]).toEqual(
    expect.arrayContaining(['POOL', 'OPERATORS', 'ADMIN_TOKEN', 'ACCESS_AUD']),
  )
  for (const name of names) {
    const problems = problemsOf(GOOD.replace('node_key: NODE_KEY', `node_key: ${name}`))
    expect(problems, `${name} is taken`).toMatchObject([{ path: 'sites.sha.node_key' }])
  }
})

it('tells a bracket that is not closed from indentation that does not fit', () => {
  expect(problemsOf('pools: {a: 1\n')[0]?.message).toContain('its } is missing')
  expect(problemsOf('cors:\n  origins: [a, b\n')[0]?.message).toContain('its ] is missing')
})

it('does not quote a line that is no YAML, for a secret may be in it', () => {
  const problems = problemsOf(GOOD.replace('NODE_KEY', '"sk-hunter2'))
  expect(problems).not.toEqual([])
  expect(JSON.stringify(problems)).not.toContain('hunter2')
})

it('finds twenty mistakes in one run, in the order of their lines', () => {
  const text = GOOD.replace('https://gpu-a', 'ftp://gpu-a')
    .replace('ACCESS_ID', 'access-id')
    .replace('region: apac', 'regoin: apac')
    .replace('policy: least', 'policy: lest')
    .replace('every: 5s', 'every: 5')
    .replace('timeout: 2s', 'timeout: soon')
    .replace('idle: 60s', 'idle: 3m')
    .replace('16MiB', '16MB')
    .replace('served_as: Chat-7B', 'served_as: ""')
    .replace('port: 8001 }', 'port: 0, slots: 1.5 }')
    .replace('host: 10.0.0.12', 'host: gpu')
    .replace('site: sha, host', 'site: shb, host')
    .replace('id: direct-1', 'id: chat-2')
    .replace('VLLM_KEY', 'vllm')
    .replace('[gpt-4o-mini]', '[other, "*"]')
    .replace('pool: chat,', 'pool: caht,')
    .replace('name: canary', 'name: Canary')
    .replace('/other', '/v1')
    .replace('/chat-7b', 'chat')
  const problems = problemsOf(text)
  expect(problems).toHaveLength(21)
  const lines = problems.map(({ line }) => line)
  expect(lines).toEqual(lines.toSorted((a, b) => a - b))
})

it('looks below a name that is refused', () => {
  const text = GOOD.replace('  direct:\n', '  Direct:\n')
    .replace('served_as: Direct-7B', 'served_as: 7')
    .replaceAll('pool: direct', 'pool: Direct')
  expect(problemsOf(text).map(({ path }) => path)).toEqual([
    'pools.Direct',
    'pools.Direct.served_as',
  ])
})

it('says nothing about what a refused part might have meant', () => {
  const text = GOOD.replace(/pools:[\s\S]*models:/, 'pools: 5\nmodels:')
  expect(problemsOf(text).map(({ path }) => path)).toEqual(['pools'])
})

it('takes names at their word, though they look like numbers', () => {
  const named = GOOD.replace('  other:', '  1.0:').replace(
    '  chat:\n    aliases',
    '  0x10:\n    aliases',
  )
  const checked = checkFleet(named)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  expect(Object.keys(checked.fleet.models)).toEqual(['0x10', '1.0'])
})

it('takes a name of vLLM in any language, up to 256 letters', () => {
  const served = (name: string) => problemsOf(GOOD.replace('Chat-7B', name))
  expect(served('/models/通义 千问-14B')).toEqual([])
  expect(served('x'.repeat(256))).toEqual([])
  expect(served('x'.repeat(257))).toMatchObject([
    { path: 'pools.chat.served_as', message: expect.stringContaining('at most 256') as string },
  ])
})

describe('text that is no fleet file', () => {
  it.each([
    ['', 1, 1, /the file is empty/],
    ['# only a comment\n', 1, 1, /the file is empty/],
    ['- a\n- b\n', 1, 1, /must be a map, not a list/],
    ['just text', 1, 1, /must be a map, not text/],
    ['pools:\n\tchat: 1\n', 2, 1, /indent with spaces/],
    ['models: {}\npools: {}\nmodels: {}\n', 3, 1, /written twice/],
    ['pools: [1\nmodels: {}\n', 2, 1, /./],
    ['pools: {}\n---\nmodels: {}\n', 2, 1, /one YAML document/],
    ['a: &here {}\npools: *nowhere\n', 2, 8, /no value before this is called &nowhere/],
    ['pools: *later\na: &later {}\n', 1, 8, /no value before this is called &later/],
    [
      'pools:\n  p: &p { served_as: m }\n  q:\n    <<: *p\n',
      4,
      5,
      /merge keys \(<<\) are not read/,
    ],
    ['7: 1\n"7": 2\n', 2, 1, /written twice/],
    ['~: 1\n', 1, 1, /a key must be a plain word/],
    ['pools: !!js/function x\n', 1, 8, /YAML tags/],
    ['? { a: 1 }\n: 2\n', 1, 3, /a key must be a plain word/],
    ['__proto__: 1\n', 1, 1, /a key must be a plain word/],
  ])('%j is refused', (text, line, column, message) => {
    const [problem] = problemsOf(text)
    expect(problem).toMatchObject({ line, column })
    expect(problem?.message).toMatch(message)
  })

  it('stops at aliases that multiply without end', () => {
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefgh'.split('').map((key, index) => {
        const before = 'abcdefgh'[index]
        return `${key}: &${key} [${Array(9).fill(`*${before}`).join(',')}]`
      }),
    ].join('\n')
    expect(problemsOf(bomb)[0]?.message).toMatch(/aliases/)
  })
})

it('counts lines in files with Windows line ends', () => {
  const problems = problemsOf(GOOD.replace('region: apac', 'region: x').replaceAll('\n', '\r\n'))
  expect(problems).toMatchObject([{ path: 'sites.sha.region', line: 6, column: 13 }])
})
