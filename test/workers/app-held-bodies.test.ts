/** Bodies that one isolate keeps at once, since each may have to be sent again. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Tenant } from '../../durable-objects/tenant/tenant-object.ts'
import { SMALL_BYTES } from '../../worker/ingress/held-bodies.ts'
import { ask, BODY, CHAT, refusal, SERVER, signed, withAcme } from './acme.ts'
import { ANSWER, eventStream, operate, send, upstream } from './world.ts'

withAcme()

const FLEET = `
defaults: { health: { every: 5s, timeout: 500ms, down_after: 2, up_after: 1 } }
pools:
  p:
    served_as: M
    limits: { body: 32MiB }
    early_commit: 1s
    instances: [{ id: a, url: "http://127.0.0.1:9001", slots: 2 }]
models:
  large: { arms: [{ pool: p }] }
`

beforeAll(async () => {
  await operate('PUT', '/fleet', FLEET)
  // A name that is new makes the isolate look for the fleet in which it may send so much.
  await ask({ ...BODY, model: 'large' }).then((response) => response.text())
})

/** Two of these are more than an isolate keeps. */
const LARGE = (() => {
  const url = `data:image/png;base64,${'A'.repeat(26 * 1024 ** 2)}`
  const content = [{ type: 'image_url', image_url: { url } }]
  return JSON.stringify({ model: 'large', messages: [{ role: 'user', content }], stream: true })
})()

/** Sent without saying how long it is. */
function askInPieces(text: string): Promise<Response> {
  const body = new ReadableStream({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode(text))
      controller.close()
    },
  })
  return send(CHAT, { method: 'POST', headers: signed(), body })
}

const REFUSED = [503, SERVER, 'router_unavailable']

describe('two large bodies at once are more than an isolate keeps', () => {
  it('also where they do not say how large they are, and their answers have begun early', async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    upstream.answer = ({ path }) =>
      path === CHAT ? gate.then(() => eventStream(ANSWER)) : undefined
    const first = await askInPieces(LARGE)
    const second = await askInPieces(LARGE)
    open()
    expect(first.status, 'committed, and still to be sent again').toBe(200)
    expect(await refusal(second)).toEqual(REFUSED)
    expect(await first.text()).toContain('[DONE]')
    const next = await askInPieces(LARGE)
    expect(await next.text(), 'there is room again').toContain('[DONE]')
  })

  it('and one that is refused before it is forwarded keeps none', async () => {
    for (let i = 0; i < 3; i++) {
      const response = await ask(LARGE.replace('"large"', '"nobody"'))
      expect((await refusal(response))[2]).toBe('model_not_found')
    }
  })
})

describe('who sends a large body', () => {
  const large = { ...BODY, model: 'large', metadata: { x: 'x'.repeat(SMALL_BYTES) } }
  const { prototype } = Tenant
  const itsOwn = Object.getOwnPropertyDescriptor(prototype, 'admit')!
  afterEach(() => {
    Object.defineProperty(prototype, 'admit', itsOwn)
  })

  it('is asked about no second time where he is known', async () => {
    let asked = 0
    const admit = itsOwn.value as (this: Tenant, ...args: unknown[]) => unknown
    const value = function (this: Tenant, ...args: unknown[]) {
      asked++
      return admit.apply(this, args)
    }
    Object.defineProperty(prototype, 'admit', { ...itsOwn, value })
    expect((await ask(large)).status).toBe(200)
    expect(asked).toBe(1)
  })

  it('and is not, is asked about before it is read', async () => {
    const { id, key } = await (
      await operate('POST', '/tenants/acme/keys', '{}')
    ).json<{ id: string; key: string }>()
    await operate('DELETE', `/tenants/acme/keys/${id}`)
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(SMALL_BYTES + 1)),
    })
    const authorization = `Bearer ${key}`
    const response = await send(CHAT, {
      method: 'POST',
      headers: { ...signed(), authorization },
      body,
    })
    expect((await refusal(response))[2]).toBe('invalid_api_key')
  })
})
