import { describe, expect, it } from 'vitest'
import { valueAt } from '../../worker/dialects/json-text.ts'
import { chat } from '../../worker/dialects/chat.ts'
import { Witness } from '../../worker/forward/witness.ts'
import { callOf } from '../../worker/ingress/call.ts'
import { isTooDeep } from '../../worker/ingress/depth.ts'
import { HeldBodies, SMALL_BYTES } from '../../worker/ingress/held-bodies.ts'
import { refuseForeignMedia, withoutUuids } from '../../worker/ingress/media.ts'
import { Refusal } from '../../worker/refusal.ts'
import { ANSWER, sse } from './core-builders.ts'

const nested = (levels: number): object => {
  let value: object = {}
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

describe('a deeply nested body', () => {
  it('is refused as a mistake of the tenant, before anything recurses into it', () => {
    const read = () => callOf({ model: 'qwen', messages: nested(50_000) }, 100)
    expect(read).toThrow(Refusal)
    expect(read).toThrow(/too deeply nested/)
  })

  it.each([
    { levels: 150, tooDeep: false },
    { levels: 250, tooDeep: true },
  ])('of $levels levels: too deep is $tooDeep', ({ levels, tooDeep }) => {
    expect(isTooDeep(nested(levels))).toBe(tooDeep)
  })
})

describe('the bodies an isolate holds', () => {
  const MIB = 1024 ** 2

  it('are bounded together, and there is room again once one is given back', () => {
    const bodies = new HeldBodies()
    const { release } = bodies.hold(30 * MIB)
    expect(() => bodies.hold(30 * MIB)).toThrow(/Too many large requests/)
    release()
    release()
    bodies.hold(30 * MIB)
    expect(() => bodies.hold(30 * MIB)).toThrow(Refusal)
  })

  it('may be one that is larger than all of the room', () => {
    expect(() => new HeldBodies().hold(78 * MIB).grow(80 * MIB)).not.toThrow()
  })

  it('leave room beside one that is larger than all of it', () => {
    const bodies = new HeldBodies()
    const { release } = bodies.hold(78 * MIB)
    for (let i = 0; i < 10; i++) bodies.hold(MIB)
    expect(() => bodies.hold(3 * MIB)).toThrow(/Too many large requests/)
    release()
    expect(() => bodies.hold(30 * MIB)).not.toThrow()
  })

  it('always have room for what is small', () => {
    const bodies = new HeldBodies()
    bodies.hold(30 * MIB)
    bodies.hold(18 * MIB)
    for (let i = 0; i < 10; i++) expect(() => bodies.hold(SMALL_BYTES)).not.toThrow()
    expect(() => bodies.hold(SMALL_BYTES + 1)).toThrow(/Too many large requests/)
    const copies = new HeldBodies(MIB, 0)
    copies.hold(MIB * 0.75)
    expect(() => copies.hold(MIB * 0.5)).toThrow(Refusal)
  })

  it('keep the room of one that has it, however many small ones have come since', () => {
    const bodies = new HeldBodies()
    const room = bodies.hold(30 * MIB)
    for (let held = 0; held < 30 * MIB; held += SMALL_BYTES) bodies.hold(SMALL_BYTES)
    expect(() => room.grow(30 * MIB)).not.toThrow()
    expect(() => room.grow(31 * MIB)).toThrow(/Too many large requests/)
  })

  it('count nothing of one that still comes when it has been given up', () => {
    const bodies = new HeldBodies()
    const room = bodies.hold(30 * MIB)
    room.release()
    room.grow(36 * MIB)
    bodies.hold(30 * MIB)
    expect(() => bodies.hold(18 * MIB)).not.toThrow()
  })

  it('count one that did not say how large it is once that is known', () => {
    const bodies = new HeldBodies()
    const room = bodies.hold(0)
    room.grow(30 * MIB)
    expect(() => bodies.hold(30 * MIB)).toThrow(/Too many large requests/)
    const other = bodies.hold(10 * MIB)
    expect(() => other.grow(30 * MIB)).toThrow(/Too many large requests/)
    other.release()
    room.release()
    bodies.hold(30 * MIB)
    bodies.hold(18 * MIB)
    expect(() => bodies.hold(MIB), 'given back once, not twice').toThrow(Refusal)
  })

  it('count one no less than it said, and nothing twice', () => {
    const bodies = new HeldBodies()
    const room = bodies.hold(20 * MIB)
    room.grow(10 * MIB)
    expect(() => bodies.hold(30 * MIB)).toThrow(/Too many large requests/)
    room.grow(24 * MIB)
    expect(() => bodies.hold(24 * MIB)).not.toThrow()
  })
})

describe("a media part's uuid, the key of a cache that all tenants share", () => {
  const part = { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' }, uuid: 'x' }
  const body = {
    messages: [{ role: 'user', content: [part, { type: 'text', text: 'what is it?' }] }],
    tools: [{ type: 'function', uuid: 'kept' }],
  }
  const call = { type: 'tool_use', name: 'f', input: { type: 'order', uuid: 'kept' } }

  it('is noticed wherever content may stand', () => {
    expect(refuseForeignMedia(body, [])).toBe(true)
    expect(refuseForeignMedia({ messages: [{ role: 'user', content: 'uuid' }] }, [])).toBe(false)
  })

  it('is taken out, and nothing else is', () => {
    const { uuid: _uuid, ...rest } = part
    const [message] = body.messages
    expect(withoutUuids(body)).toEqual({
      messages: [{ ...message, content: [rest, { type: 'text', text: 'what is it?' }] }],
      tools: body.tools,
    })
    expect(part.uuid).toBe('x')
  })

  it("stays where it is an argument of a tool's, beside a part or within one", () => {
    const said = { role: 'assistant', content: [call], tool_calls: [{ function: call.input }] }
    expect(refuseForeignMedia({ messages: [said] }, [])).toBe(false)
    expect(withoutUuids({ messages: [said] })).toEqual({ messages: [said] })
  })

  it.each(['prompt_embeds', 'image_embeds', 'audio_embeds'])(
    'a part of type %s is refused: it goes past the encoders',
    (type) => {
      const content = [{ type, [type]: 'AAAA' }]
      expect(() => refuseForeignMedia({ messages: [{ role: 'user', content }] }, [])).toThrow(
        /Embeddings/,
      )
    },
  )
})

describe('many frames shown to a witness in one text', () => {
  const ids = sse(
    ...ANSWER.map((frame) => ({
      ...frame,
      choices: [{ index: 0, delta: { content: 'a' }, token_ids: [1, 2] }],
    })),
  )
  it.each([
    { what: 'going on', text: ids },
    { what: 'at their end', text: ids + sse('[DONE]') },
    {
      what: 'with usage',
      text: ids + sse({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 9 } }, '[DONE]'),
    },
    { what: 'with an error', text: ids + sse({ error: { message: 'boom', code: 500 } }, '[DONE]') },
    { what: 'that are comments', text: ': keep-alive\n\n: ping\n\n' },
    { what: 'that are none', text: '' },
  ])('prove and count the same as one by one: $what', ({ text }) => {
    const [together, apart] = [new Witness(chat), new Witness(chat)]
    const heard = together.seeAll(text)
    const each = text
      .split(/(?<=\n\n)/)
      .filter((frame) => frame !== '')
      .map((frame) => apart.see(frame))
    expect(heard).toBe(each.includes(true))
    expect(together.proof).toBe(apart.proof)
    expect(together.usage(7)).toEqual(apart.usage(7))
  })
})

describe('a value found in JSON as text', () => {
  it.each([
    { json: '{"model":"a"}', names: ['model'], at: 9 },
    { json: '{"metadata":{"model":"x"},"model":"a"}', names: ['model'], at: 34 },
    {
      json: '{"x":{"response":{"model":"x"}},"response":{"model":"a"}}',
      names: ['response', 'model'],
      at: 52,
    },
    { json: '{"text":"\\"model\\":\\"x\\"","model":"a"}', names: ['model'], at: 34 },
    { json: '{"a":[{"model":"x"}]}', names: ['model'], at: -1 },
  ])('stands under its names alone: $names in $json', ({ json, names, at }) => {
    expect(valueAt(json, names)).toBe(at)
  })
})
