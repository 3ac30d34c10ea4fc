import { describe, expect, it } from 'vitest'
import { configFile, parseConfig, settle } from '../../scripts/cli/profiles.ts'

const FILE = '/home/ann/.config/penstock/config.yaml'
const CONFIG = parseConfig(
  `
profiles:
  prod: { url: https://llm.example.com, token_env: PROD_TOKEN }
  staging: { url: https://staging.example.com }
`,
  FILE,
)
const DEFAULT = { ...CONFIG, default: 'prod' }
const TOKENS = { PROD_TOKEN: 'p', PENSTOCK_ADMIN_TOKEN: 'own' }
const settled = (
  asked: Parameters<typeof settle>[0],
  env: Record<string, string> = {},
  {
    config = CONFIG,
    hasLocalRun = false,
  }: { config?: typeof CONFIG | null; hasLocalRun?: boolean } = {},
) => settle(asked, { ...TOKENS, ...env }, { readConfig: () => config, file: FILE, hasLocalRun })
const PROD = { PENSTOCK_URL: 'https://llm.example.com', PENSTOCK_ADMIN_TOKEN: 'p' }

describe('which router', () => {
  it.each([
    { why: 'a profile, with its own token', asked: { profile: 'prod' }, is: PROD },
    {
      why: 'a profile without token_env, with the usual one',
      asked: { profile: 'staging' },
      is: { PENSTOCK_URL: 'https://staging.example.com', PENSTOCK_ADMIN_TOKEN: 'own' },
    },
    {
      why: 'a profile rather than PENSTOCK_URL',
      asked: { profile: 'prod' },
      env: { PENSTOCK_URL: 'https://other.example.com' },
      is: PROD,
    },
    { why: 'PENSTOCK_PROFILE', asked: {}, env: { PENSTOCK_PROFILE: 'prod' }, is: PROD },
    { why: 'the default profile', asked: {}, config: DEFAULT, is: PROD },
    { why: '--url, whatever the default', asked: { url: 'https://x' }, config: DEFAULT, is: {} },
    {
      why: 'PENSTOCK_URL, whatever the default',
      asked: {},
      env: { PENSTOCK_URL: 'https://x' },
      config: DEFAULT,
      is: {},
    },
    { why: 'what it was without profiles', asked: {}, config: null, is: {} },
    { why: 'the local run', asked: { profile: 'local' }, is: { PENSTOCK_URL: null } },
    {
      why: 'the profile that is named, beside a local run',
      asked: { profile: 'prod' },
      config: DEFAULT,
      hasLocalRun: true,
      is: PROD,
    },
  ])('is $why', ({ asked, env = {}, config, hasLocalRun = false, is }) => {
    expect(settled(asked, env, { ...(config !== undefined && { config }), hasLocalRun })).toEqual(
      is,
    )
  })

  it.each([
    { why: 'two are named', asked: { url: 'https://x', profile: 'prod' }, says: /either --url or/ },
    {
      why: 'it is misspelt',
      asked: { profile: 'prdo' },
      says: /has no profile prdo; did you mean prod/,
    },
    { why: 'there is no file', asked: { profile: 'prod' }, config: null, says: /does not exist/ },
    {
      why: 'its token is not there',
      asked: { profile: 'prod' },
      env: { PROD_TOKEN: '' },
      says: /set PROD_TOKEN/,
    },
    {
      why: 'a default stands beside a local run',
      asked: {},
      config: DEFAULT,
      hasLocalRun: true,
      says: /--profile local or --profile prod/,
    },
  ])('cannot be told when $why', ({ asked, env = {}, config, hasLocalRun = false, says }) => {
    expect(() =>
      settled(asked, env, { ...(config !== undefined && { config }), hasLocalRun }),
    ).toThrow(says)
  })
})

describe('the file', () => {
  it.each([
    [
      'profiles: { p: { url: https://x, token: sk-hunter2 } }',
      /profiles\.p: a token is never written here/,
    ],
    [
      'profiles: { p: { url: https://x, token_env: sk-hunter2 } }',
      /profiles\.p\.token_env: name an environment/,
    ],
    ['profiles: { p: { url: llm.example.com } }', /profiles\.p\.url: write the whole URL/],
    ['profiles: { p: { ulr: https://x } }', /./],
    ['profiles: { local: { url: https://x } }', /local means the local run/],
    ['default: q\nprofiles: { p: { url: https://x } }', /has no profile q/],
    ['profiles: [', /is not YAML/],
    ['profile: {}', /unknown key profile; did you mean profiles/],
  ])('%j is refused, without a value of it', (text, says) => {
    const read = () => parseConfig(text, FILE)
    expect(read).toThrow(says)
    expect(read).not.toThrow(/hunter2/)
  })

  it('may be empty', () => {
    expect(parseConfig('', FILE)).toEqual({ profiles: {} })
  })

  it('is where XDG says, else below the home directory', () => {
    expect(configFile({ XDG_CONFIG_HOME: '/etc/me' })).toBe('/etc/me/penstock/config.yaml')
    expect(configFile({})).toMatch(/\/\.config\/penstock\/config\.yaml$/)
  })
})
