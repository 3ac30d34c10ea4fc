/** Where a request goes: by host, path, name, alias, arm, rule and share, over the whole path. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generating, inFlight, keyOf, modelsIn } from '../support/e2e-api.ts'
import { ask, type Received } from '../support/e2e-http.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { operator } from '../support/pool-calls.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'
import { dial } from './websocket-client.ts'

const HOST = 'qwen.example.test'
const CHAT = '/v1/chat/completions'
const options = { profile: { ttftBaseMs: 2, itlBaseMs: 1 }, kind: 'all' } as const

let stack: Stack
let tenants: Tenants
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    services: 2,
    sims: [
      { id: 'base-1', pool: 'base', options: { ...options, loraModules: ['tuned'] } },
      { id: 'next-1', pool: 'next', options: { ...options, maxModelLen: 4096 } },
      { id: 'long-1', pool: 'long', options: { ...options, maxModelLen: 32_768 } },
    ],
    fleet: {
      models: {
        qwen: {
          aliases: ['qwen-latest', 'gpt-*'],
          path: '/qwen',
          hosts: [HOST],
          arms: [{ pool: 'base' }, { pool: 'next', name: 'canary', weight: 0 }],
          rules: [
            { when: { header: { 'x-model-version': ['next', 'v2*'] } }, arm: 'canary' },
            { when: { user: ['u-7*'] }, arm: 'canary' },
            { when: { plan: 'early' }, arm: 'canary' },
            { when: { stream: true, tools: true }, arms: { canary: 1 } },
            { when: { prompt_tokens_over: 2_000 }, model: 'roomy' },
          ],
        },
        roomy: { arms: [{ pool: 'long' }] },
        tuned: { aliases: ['gpt-4o-*'], arms: [{ pool: 'base', adapter: 'tuned' }] },
        moving: {
          arms: [
            { pool: 'base', weight: 7 },
            { pool: 'next', weight: 0 },
          ],
        },
      },
      plans: { early: {}, narrow: { models: ['qwen'] } },
    },
  })
  tenants = tenantsOf(stack)
})
afterAll(() => stack?.stop())

interface Said {
  /** Of a service of the Worker; default the first. */
  readonly url?: string
  readonly host?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly key?: string
  readonly body?: object
}

const chat = (model: string | undefined, said: Said = {}): Promise<Received> => {
  const { host, path = CHAT, headers = {}, key = stack.apiKey, body = {}, url = stack.url } = said
  const messages = [{ role: 'user', content: 'hi' }]
  return ask(url + path, {
    headers: { ...keyOf({ apiKey: key }), ...(host && { host }), ...headers },
    body: { model, messages, max_tokens: 2, ...body },
  })
}

/** Where an answer came from, and by what name it goes. */
const wayOf = ({ status, headers, text }: Received) => ({
  status,
  to: [headers['x-penstock-model'], headers['x-penstock-arm'], headers['x-penstock-pool']].join(
    ' ',
  ),
  shown: [...new Set(modelsIn(text))],
})
const way = (to: string, ...shown: string[]) => ({ status: 200, to, shown })

const LONG = { messages: [{ role: 'user', content: 'word '.repeat(2_000) }] }
const TOOLS = [{ type: 'function', function: { name: 'f', parameters: {} } }]
const STABLE = 'qwen stable base'
const CANARY = 'qwen canary next'
const TUNED = 'tuned stable base'

describe('a request goes', () => {
  it.concurrent.each<{ model?: string; said?: Said; to: string; shown?: string; by: string }>([
    { model: 'qwen', to: STABLE, by: 'its model’s shares' },
    { model: 'qwen-latest', to: STABLE, by: 'an alias' },
    { model: 'gpt-3.5', to: STABLE, by: 'a glob' },
    { model: 'gpt-4o-mini', to: TUNED, by: 'the glob that says more' },
    { model: 'qwen@canary', to: CANARY, by: 'the arm that is named' },
    { model: 'gpt-4@canary', to: CANARY, by: 'the arm of a glob' },
    { model: 'tuned', to: TUNED, by: 'an adapter' },
    { model: 'qwen', said: { headers: { 'x-model-version': 'next' } }, to: CANARY, by: 'a header' },
    { model: 'qwen', said: { headers: { 'x-model-version': 'v2.1' } }, to: CANARY, by: 'a prefix' },
    { model: 'qwen', said: { headers: { 'x-model-version': 'v1' } }, to: STABLE, by: 'no rule' },
    { model: 'qwen', said: { body: { user: 'u-77' } }, to: CANARY, by: 'its user' },
    { model: 'qwen', said: { body: { safety_identifier: 'u-7' } }, to: CANARY, by: 'a newer name' },
    { model: 'qwen', said: { body: { stream: true, tools: TOOLS } }, to: CANARY, by: 'a stream' },
    { model: 'qwen', said: { body: { stream: true } }, to: STABLE, by: 'half a rule: none' },
    { model: 'qwen', said: { body: LONG }, to: 'roomy stable long', by: 'its length' },
    { model: 'qwen@stable', said: { body: LONG }, to: STABLE, by: 'its own word before a rule' },
    { said: { host: HOST }, to: STABLE, shown: 'qwen', by: 'its host' },
    {
      model: 'tuned',
      said: { host: HOST.toUpperCase() },
      to: STABLE,
      shown: 'qwen',
      by: 'it alone',
    },
    {
      model: 'x',
      said: { host: `${HOST}:8443` },
      to: STABLE,
      shown: 'qwen',
      by: 'it, at any port',
    },
    { model: 'qwen@canary', said: { host: HOST }, to: CANARY, by: 'its own arm there' },
    { model: 'tuned', said: { host: 'other.example.test' }, to: TUNED, by: 'the body elsewhere' },
    { model: 'tuned', said: { path: `/qwen${CHAT}` }, to: STABLE, shown: 'qwen', by: 'its path' },
  ])('by $by to $to', async ({ model, said = {}, to, shown = model! }) => {
    expect(wayOf(await chat(model, said))).toEqual(way(to, shown))
  })

  it.concurrent.each(['/v1/completions', '/v1/messages', '/v1/responses'])(
    'to the adapter on %s too, and nothing tells its own name',
    async (path) => {
      const body = { messages: [{ role: 'user', content: 'hi' }], prompt: 'hi', input: 'hi' }
      for (const stream of [false, true]) {
        const got = await chat('gpt-4o-2', { path, body: { ...body, stream } })
        expect(wayOf(got)).toEqual(way(TUNED, 'gpt-4o-2'))
        const id = got.headers['x-request-id']
        const sent = generating(stack.sims['base-1']!).find((one) => one.id === id)
        expect(sent?.body).toMatchObject({ model: 'tuned' })
      }
    },
  )

  it.concurrent.each(['qwen@nobody', 'qwen@', 'roomy2', 'gp t-4', '*'])(
    'nowhere by %j',
    async (model) => {
      expect(await chat(model)).toMatchObject({
        status: 404,
        text: expect.stringContaining('model_not_found') as string,
      })
    },
  )

  it('by its tenant’s plan, from the first request on', async () => {
    const [early, narrow] = [
      await tenants.create('early', { plan: 'early' }),
      await tenants.create('other', { plan: 'narrow' }),
    ]
    for (let turn = 0; turn < 2; turn++) {
      expect(wayOf(await chat('qwen', { key: early }))).toEqual(way(CANARY, 'qwen'))
      expect(wayOf(await chat('qwen', { key: narrow }))).toEqual(way(STABLE, 'qwen'))
    }
  })

  it('to a model that its plan has not, where a rule says so: it is billed as that', async () => {
    const key = await tenants.create('led', { plan: 'narrow' })
    expect(await chat('roomy', { key })).toMatchObject({ status: 403 })
    for (let turn = 0; turn < 2; turn++) {
      expect(wayOf(await chat('qwen', { key, body: LONG }))).toEqual(
        way('roomy stable long', 'qwen'),
      )
    }
    await tenants.idle('led')
    const rows = await eventually(
      () => tenants.usage('led'),
      (all) => all.some(({ requests }) => requests === 2),
    )
    expect(rows.filter(({ requests }) => requests > 0).map(({ model }) => model)).toEqual(['roomy'])
  })
})

describe('the list of models', () => {
  const listed = async (said: Said = {}, path = '/v1/models') => {
    const { key = stack.apiKey, host } = said
    const headers = { ...keyOf({ apiKey: key }), ...(host && { host }) }
    const { text, status } = await ask(stack.url + path, { headers })
    return { status, json: JSON.parse(text) as { data: Record<string, unknown>[] } }
  }
  const card = (id: string, length: number) => ({
    id,
    object: 'model',
    created: expect.any(Number) as number,
    owned_by: 'penstock',
    max_model_len: length,
  })

  it('says how long a prompt may be, of the arms that have a share', async () => {
    expect((await listed()).json.data).toEqual([
      card('qwen', 8192),
      card('roomy', 32_768),
      card('tuned', 8192),
      card('moving', 8192),
    ])
  })

  it('has one model under its host and its path, and what the plan has', async () => {
    const ids = async (...asked: Parameters<typeof listed>) =>
      (await listed(...asked)).json.data.map(({ id }) => id)
    expect(await ids({ host: HOST })).toEqual(['qwen'])
    expect(await ids({}, '/qwen/v1/models')).toEqual(['qwen'])
    const key = await tenants.create('reader', { plan: 'narrow' })
    expect(await ids({ key })).toEqual(['qwen'])
  })

  it.each([
    { id: 'gpt-4o-mini', length: 8192 },
    { id: 'gpt-anything', length: 8192 },
    { id: 'qwen@canary', length: 4096 },
    { id: encodeURIComponent('qwen@canary').toLowerCase(), asked: 'qwen@canary', length: 4096 },
  ])('has a card for $id', async ({ id, asked = id, length }) => {
    expect((await listed({}, `/v1/models/${id}`)).json).toEqual(card(asked, length))
  })

  it('has none for what nobody may ask for, nor for another model under a host', async () => {
    for (const id of ['qwen@nobody', 'claude-3', 'gpt-*']) {
      expect((await listed({}, `/v1/models/${id}`)).status).toBe(404)
    }
    expect((await listed({ host: HOST }, '/v1/models/roomy')).status).toBe(404)
    expect((await listed({ host: HOST }, '/v1/models/qwen@canary')).status).toBe(200)
  })
})

describe('an explanation', () => {
  const explained = async (question: object) => {
    const { json } = await operator(stack, 'POST', '/admin/explain', { body: question })
    const { model, arm, rule } = json as Record<string, unknown>
    return { model, arm, rule }
  }
  const body = { model: 'qwen', messages: [{ role: 'user', content: 'hi' }] }

  it.each([
    { said: {}, to: { model: 'qwen', arm: 'stable', rule: null } },
    { said: { headers: { 'x-model-version': 'next' } }, to: { arm: 'canary', rule: 0 } },
    { said: { plan: 'early' }, to: { arm: 'canary', rule: 2 } },
    { said: { body: { ...body, ...LONG } }, to: { model: 'roomy', arm: 'stable', rule: 4 } },
    { said: { host: HOST, body: { ...body, model: 'roomy' } }, to: { model: 'qwen', rule: null } },
    { said: { host: 'QWEN.example.test:443', body: {} }, to: { model: 'qwen', rule: null } },
  ])('of $said follows the rules, and says which one held', async ({ said, to }) => {
    expect(await explained({ body, ...said })).toMatchObject(to)
  })

  it('goes by the plan that the tenant has', async () => {
    await tenants.create('asker', { plan: 'early' })
    expect(await explained({ body, tenant: 'asker' })).toMatchObject({ rule: 2 })
    expect(await explained({ body, tenant: 'asker', plan: 'narrow' })).toMatchObject({ rule: null })
  })

  it.each(['a b', 'host/path', '[', 7])('is refused for the host %j', async (host) => {
    const question = { body: { body, host } }
    expect(await operator(stack, 'POST', '/admin/explain', question)).toMatchObject({
      status: 400,
      json: { error: { param: 'host' } },
    })
  })
})

it('a realtime socket under a model’s host is to that model, by an adapter where it has one', async () => {
  const headers = keyOf(stack)
  const there = await dial(`${stack.url}/v1/realtime`, { headers: { ...headers, host: HOST } })
  expect(there.headers).toMatchObject({ 'x-penstock-model': 'qwen', 'x-penstock-arm': 'stable' })
  there.ws.terminate()
  const tuned = await dial(`${stack.url}/v1/realtime?model=gpt-4o-live`, { headers })
  expect(tuned.headers).toMatchObject({ 'x-penstock-model': 'tuned' })
  tuned.say({ type: 'session.update', model: 'gpt-4o-other' })
  tuned.say({ type: 'session.update', model: 'qwen' })
  expect(await tuned.until(({ type }) => type === 'error')).toMatchObject({
    code: 'model_not_found',
  })
  // What went upstream is the adapter's name, and never the other model's.
  const sockets = stack.sims['base-1']!.requests().filter(({ path }) => path === '/v1/realtime')
  expect(sockets.at(-1)?.body).toEqual([{ type: 'session.update', model: 'tuned' }])
  tuned.ws.terminate()
})

it('a conversation keeps its arm over an apply, in each Worker; a new one goes by the new shares', async () => {
  const [first, second] = stack.services
  const say = (service: string | undefined, ...turns: readonly string[]) => {
    const messages = turns.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }))
    return chat('moving', { url: service!, body: { messages } })
  }
  const armAt = async (...said: Parameters<typeof say>) =>
    (await say(...said)).headers['x-penstock-arm']
  expect(await armAt(first, 'tell me')).toBe('stable')

  const moved = stack.yaml
    .replace(/weight: 7\b/, 'weight: 0')
    .replace(/(next\n +weight:) 0/, '$1 7')
  await stack.admin.applyFleet(moved)
  for (const [i, service] of [first, second].entries()) {
    let tries = 0
    await eventually(
      () => armAt(service, `new ${i} ${tries++}`),
      (arm) => arm === 'next',
    )
  }
  for (const service of [second, first, second]) {
    const got = await say(service, 'tell me', 'this', 'and more')
    expect(wayOf(got)).toEqual(way('moving stable base', 'moving'))
  }
  await sleep(1_500) // what the tenant's object knows is stored once a second
  await stack.crashTenant('test')
  expect(await armAt(first, 'tell me', 'this', 'and more'), 'over a reset too').toBe('stable')
  expect(await armAt(second, 'tell me'), 'who begins alike begins anew').toBe('next')
  for (const pool of ['base', 'next']) {
    // What was taken in the other pool was given back.
    const status = await eventually(
      () => stack.pool(pool),
      (now) => inFlight(now) === 0,
    )
    expect(inFlight(status)).toBe(0)
  }
})

it('a host with a dot at its end is the same host', async () => {
  expect(wayOf(await chat(undefined, { host: `${HOST}.` }))).toEqual(way(STABLE, 'qwen'))
})

it.each(['/v1/chat/completions', '/v1/messages'])(
  'what stands for a type in a part on %s is no fault of ours, whatever it is',
  async (path) => {
    const content = [{ type: { toString: 1 }, text: 'hi' }]
    const got = await chat('qwen', { path, body: { messages: [{ role: 'user', content }] } })
    expect(got.status).toBeLessThan(500)
  },
)
