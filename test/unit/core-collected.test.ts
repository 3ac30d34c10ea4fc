import { describe, expect, it, vi } from 'vitest'
import { Collected } from '../../worker/forward/collected.ts'
import { presented, type Presentation } from '../../worker/forward/edits.ts'
import { dataOf, framesIn } from '../../worker/forward/frames.ts'
import { collect } from '../../worker/forward/open.ts'
import type { Watchdog } from '../../worker/forward/watchdog.ts'
import { Witness } from '../../worker/forward/witness.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { parseObject, type Json } from '../../worker/json.ts'
import { bodyOf, eventStream, RECORDED, recorded, recordedStream, sse } from './core-builders.ts'

const chat = ENDPOINTS[0]!
const OURS: Presentation = {
  shown: 'qwen',
  hidesUsage: false,
  hidesIds: true,
  reasoningTwice: false,
}

const gather = (response: Response) =>
  collect(
    response,
    {
      endpoint: chat,
      dialect: chat.dialect!,
      witness: new Witness(chat.dialect!),
      naming: { servedAs: 'Qwen', model: 'qwen' },
      presentation: OURS,
      watchdog: { heard: () => undefined } as unknown as Watchdog,
      onContent: () => undefined,
    },
    {},
  )

const HEAD = {
  id: 'chatcmpl-req_01ABCDEFGHJKMNPQRSTVWXYZ',
  object: 'chat.completion.chunk',
  created: 1_764_000_000,
  model: 'Qwen-14B-Chat',
}
/** As engines say what they do not have. */
const NOTHING = { usage: null, prompt_text: null, service_tier: null }

/** A frame of one token. */
const token = (index: number, content: string, why: string | null): string => {
  const ending = { logprobs: null, finish_reason: why, stop_reason: null, token_ids: [151_643] }
  return sse({ ...HEAD, choices: [{ index, delta: { content }, ...ending }], ...NOTHING })
}

/** The first frame of each answer, which repeats the prompt. */
const role = (index: number, prompt: number): string =>
  sse({
    ...HEAD,
    choices: [{ index, delta: { role: 'assistant', content: '' } }],
    prompt_token_ids: Array.from({ length: prompt }, () => 151_643),
  })

/** The data frames of a text, kept as those of a long answer are, or as they came. */
function kept(text: string, hidesIds: boolean, isLong: boolean): readonly Json[] {
  const collected = new Collected({ hidesIds })
  for (const frame of framesIn(text)) {
    const said = parseObject(dataOf(frame) ?? '')
    if (said) collected.add(said, frame.length)
    if (isLong) expect(collected.fits(Infinity)).toBe(false)
  }
  return collected.frames
}

describe('a long answer that is put together', () => {
  it('may have as many tokens as a tenant may ask for by default', async () => {
    const [answers, tokens, prompt] = [8, 8192, 100_000]
    const body = bodyOf(...Array.from({ length: answers }, (_, index) => role(index, prompt)))
    const outcome = gather(eventStream(body.stream))
    for (let at = 0; at < tokens; at++) {
      const ends = at === tokens - 1 ? 'length' : null
      const frames = Array.from({ length: answers }, (_, index) => token(index, ' word', ends))
      body.push(frames.join(''))
    }
    body.push(sse('[DONE]'))
    body.end()
    const answer = await outcome
    if (answer.kind !== 'whole') throw new Error(JSON.stringify(answer))
    const { id, choices } = JSON.parse(answer.body as string) as Record<string, Json[]>
    expect(id).toBe('chatcmpl-req_01ABCDEFGHJKMNPQRSTVWXYZ')
    const text = ' word'.repeat(tokens)
    expect(choices).toHaveLength(answers)
    for (const choice of choices!) {
      expect(choice['message']).toMatchObject({ content: text })
      expect(choice['token_ids'], 'as where nobody asked for them').toBeNull()
    }
  })

  it('is given up where what it says is too much, and where a frame of it has no end', async () => {
    const long = `data: {"x":"${'x'.repeat(1024 ** 2)}`
    for (const piece of [`${long}"}\n\n`, long]) {
      const body = bodyOf(...Array.from({ length: 9 }, () => piece))
      const outcome = await gather(eventStream(body.stream))
      expect(outcome).toMatchObject({ kind: 'rejection', status: 400, param: 'stream' })
      expect(body.cancelled).toBe(true)
    }
  })

  it.each(RECORDED)('is the same as a short one: %s', (name) => {
    const path = /^POST (\S+)/.exec(recorded(name).request)![1]!
    const { assemble } = ENDPOINTS.find((endpoint) => endpoint.path === path)!.dialect!
    if (!assemble) return
    const text = recordedStream(name)
    for (const hidesIds of [true, false]) {
      const [long, short] = [true, false].map((isLong) =>
        assemble(kept(text, hidesIds, isLong), {}),
      )
      expect(long).not.toBeNull()
      const presentation = { ...OURS, hidesIds }
      expect(presented(long!, presentation)).toEqual(presented(short!, presentation))
    }
  })

  it('costs a short one nothing: its frames are kept as they came', () => {
    const stringify = vi.spyOn(JSON, 'stringify')
    try {
      const collected = new Collected({ hidesIds: true })
      const frame = { id: 'a', choices: [{ index: 0, token_ids: [1], logprobs: null }] }
      collected.add(frame, 100)
      collected.add(frame, 100)
      expect(collected.fits(100)).toBe(true)
      expect(stringify).not.toHaveBeenCalled()
      expect(collected.frames).toEqual([frame, frame])
    } finally {
      stringify.mockRestore()
    }
  })
})
