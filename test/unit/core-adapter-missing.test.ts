import { describe, expect, it } from 'vitest'
import { respond } from '../../worker/forward/respond.ts'
import { json, stream } from './core-answers.ts'
import { refusalOf } from './core-ask.ts'
import { ANSWER, poolRoute, recorded, snapshot, sse } from './core-builders.ts'
import { worldOf, type Answers } from './core-world.ts'

const MISSING = {
  error: { message: 'The model `sql` does not exist.', type: 'NotFoundError', code: 404 },
}
const WELL = stream(sse(...ANSWER, '[DONE]'))

/** A request for `acme-sql`, which is the adapter `sql` of a pool's own `Qwen`; or for that itself. */
function world(instances: Readonly<Record<string, Answers>>, adapter: string | null = 'sql') {
  const seen = worldOf({ instances, shown: 'acme-sql', route: { servedAs: adapter ?? 'Qwen' } })
  const [first] = seen.order.routes
  const order = { ...seen.order, routes: [{ ...first, arm: { ...first.arm, adapter } }] as const }
  const fleet = () => snapshot({ pools: { 'qwen-14b': poolRoute({ servedAs: 'Qwen' }) } })
  return { ...seen, answer: respond(order, { ...seen.deps, fleet }) }
}

describe('an instance that lacks the adapter', () => {
  it.each([
    { missing: json(MISSING, 404), why: 'as an error' },
    { missing: stream(sse(MISSING)), why: 'within a stream' },
    {
      missing: json(JSON.parse(recorded('error-messages-model').text), 404),
      why: 'as Anthropic would',
    },
  ])('is left for another one, and not blamed: it says so $why', async ({ missing }) => {
    const { answer, released, over } = world({ a: missing, b: WELL })
    expect(await (await answer).text()).toContain('Hello')
    await over()
    expect(released).toMatchObject([
      { instance: 'a', ending: 'upstream-failed', blameless: true, adapterMissing: true },
      { instance: 'b', ending: 'done', blameless: false },
    ])
    expect(released[1]).not.toHaveProperty('adapterMissing')
  })

  it.each([
    { adapter: null, missing: json(MISSING, 404), why: 'it lacks the model of the whole pool' },
    {
      adapter: 'sql',
      missing: json({ error: { message: 'Boom', code: 500 } }, 500),
      why: 'it fails',
    },
    { adapter: 'sql', missing: json({ error: 'no' }, 404), why: 'somebody on the way says 404' },
  ])('is told from one that is to blame: $why', async ({ adapter, missing }) => {
    const { answer, released, over } = world({ a: missing, b: WELL }, adapter)
    await (await answer).text()
    await over()
    expect(released).toMatchObject([
      { instance: 'a', ending: 'upstream-failed', blameless: false },
      { instance: 'b', ending: 'done' },
    ])
    expect(released[0]).not.toHaveProperty('adapterMissing')
  })
})

it("an error that names the pool's own model in place of the adapter names the tenant's to him", async () => {
  const message = 'Qwen, with sql, takes 8 tokens (Qwen-14B takes more).'
  const { answer } = world({
    a: json({ error: { message, type: 'BadRequestError', code: 400 } }, 400),
  })
  expect(await (await answer).json()).toMatchObject({
    error: { message: 'acme-sql, with acme-sql, takes 8 tokens (Qwen-14B takes more).' },
  })
  const failing = world({ a: json({ error: { message, code: 500 } }, 500) })
  expect((await refusalOf(failing.answer)).message).not.toMatch(/Qwen,|with sql/)
})
