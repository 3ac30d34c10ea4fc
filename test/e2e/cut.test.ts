/** Streams that break after their content has begun: what came stands, and the end is no success. */
import { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Fault } from '../../scripts/sim/faults.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { eventsOf, inFlight, isWhole, keyOf, sdk, TABLE, textIn } from '../support/e2e-api.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const IDLE = '900ms'
const FAST = { ttftBaseMs: 5, itlBaseMs: 4 }
/** One token, then nothing for as long as any test may take. */
const SILENT = { ttftBaseMs: 5, itlBaseMs: 600_000 }

/** Each break has a pool of its own with one instance, so that all can be tried at once. */
const BREAKS: Readonly<Record<string, { readonly fault: Fault; readonly ending: Ending }>> = {
  reset: { fault: { kind: 'cut', afterChunks: 7 }, ending: 'truncated' },
  'clean-end': { fault: { kind: 'early-end', afterChunks: 7 }, ending: 'truncated' },
  'mid-frame': { fault: { kind: 'cut', afterChunks: 7, midFrame: true }, ending: 'truncated' },
  'error-frame': {
    fault: { kind: 'stream-error', code: 500, afterChunks: 7 },
    ending: 'upstream-failed',
  },
}

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...Object.keys(BREAKS).map((pool) => ({ id: pool, pool, options: { profile: FAST } })),
      { id: 'leaves-done', pool: 'leaves-done', options: { profile: FAST } },
      { id: 'leaves-failed', pool: 'leaves-failed', options: { profile: FAST } },
      { id: 'stops', pool: 'stops', options: { profile: FAST } },
      { id: 'whole', pool: 'whole', options: { profile: FAST } },
      { id: 'silent', pool: 'silent', options: { profile: SILENT } },
      { id: 'alive', pool: 'alive', options: { profile: SILENT } },
      { id: 'slow', pool: 'slow', options: { profile: { ttftBaseMs: 5, itlBaseMs: 350 } } },
    ],
    fleet: { defaults: { timeouts: { idle: IDLE } } },
  })
  for (const [pool, { fault }] of Object.entries(BREAKS)) await stack.sims[pool]!.setFault(fault)
  await stack.sims['leaves-failed']!.setFault(BREAKS['error-frame']!.fault)
  for (const pool of ['alive', 'slow'])
    await stack.sims[pool]!.setFault({ kind: 'keep-alive', everyMs: 60 })
})
afterAll(() => stack?.stop())

const TOKENS = 40
const FIELDS = { stream: true, max_tokens: TOKENS }
const TEXT = 'tell me more'

const stream = (pool: string, row = TABLE[0]!): Promise<Received> =>
  ask(stack.url + row.path, { headers: keyOf(stack), body: row.body(pool, TEXT, FIELDS) })

/** What the engine would have said. */
const wholeText = async (row = TABLE[0]!): Promise<string> =>
  textIn(
    (await ask(stack.sims['whole']!.url + row.path, { body: row.body('whole', TEXT, FIELDS) }))
      .text,
  )

/** What the SDK hands out, and what it throws at the end. */
async function throughSdk(pool: string): Promise<{ text: string; error: unknown }> {
  let text = ''
  try {
    const chunks = await sdk(stack).chat.completions.create({
      model: pool,
      messages: [{ role: 'user', content: TEXT }],
      max_tokens: TOKENS,
      stream: true,
    })
    for await (const { choices } of chunks) text += choices[0]?.delta.content ?? ''
    return { text, error: null }
  } catch (error) {
    return { text, error }
  }
}

/** Every request of a pool has been given back as what it was, and as nothing else. */
const expectEnding = async (pool: string, ending: Ending): Promise<void> => {
  const { ended, granted } = await eventually(
    () => stack.pool(pool),
    (status) => inFlight(status) === 0 && status.ended[ending] > 0,
  )
  expect(ended).toMatchObject({ [ending]: granted })
}

describe('a stream that breaks after its content has begun', () => {
  it.concurrent.each(Object.keys(BREAKS))('%s: the SDK throws, the text stands', async (pool) => {
    const whole = await wholeText()
    const { text, error } = await throughSdk(pool)
    expect(text.length).toBeGreaterThan(10)
    expect(text.length).toBeLessThan(whole.length)
    expect(whole.startsWith(text)).toBe(true)
    expect(error).toBeInstanceOf(Error)
    // Half a frame must not be taken for a frame, nor glued to what comes after it (L29b).
    expect(error).not.toBeInstanceOf(SyntaxError)
    expect(String(error)).not.toMatch(/malformed|JSON/i)
    await expectEnding(pool, BREAKS[pool]!.ending)
  })

  it.concurrent.each(
    ['reset', 'clean-end'].flatMap((pool) => TABLE.map((row) => ({ pool, row, path: row.path }))),
  )('$pool ($path): ends with an error frame and without the end mark', async ({ pool, row }) => {
    const whole = await wholeText(row)
    const { status, text, complete } = await stream(pool, row)
    expect({ status, complete }).toEqual({ status: 200, complete: true })
    expect(text).not.toContain('[DONE]')
    const events = eventsOf(text)
    const error = events.pop()!
    expect(JSON.parse(error)).toEqual({
      error: {
        message: expect.stringMatching(/lost.*incomplete/) as string,
        type: 'server_error',
        param: null,
        code: 'upstream_failed',
      },
    })
    expect(events).toHaveLength(7)
    expect(whole.startsWith(textIn(events.map((event) => `data: ${event}\n\n`).join('')))).toBe(
      true,
    )
  })

  it.concurrent.each(TABLE)('mid-frame: is broken off where it was ($path)', async (row) => {
    const { text, complete } = await stream('mid-frame', row)
    expect(complete).toBe(false)
    expect(text).not.toMatch(/\[DONE\]|"error"/)
    for (const event of eventsOf(text)) JSON.parse(event)
    expect(text.endsWith('\n\n')).toBe(false) // the half frame itself did arrive
  })

  it.concurrent("the engine's own error frame passes, and is no success", async () => {
    const { text, complete } = await stream('error-frame')
    expect(complete).toBe(true)
    const errors = eventsOf(text).filter((event) => event.startsWith('{"error"'))
    expect(errors).toHaveLength(1) // and we have not added one of ours
    expect(isWhole(text)).toBe(false)
  })

  it.concurrent('an engine that shuts down in the middle of it has not done it', async () => {
    const sim = stack.sims['stops']!
    const body = TABLE[0]!.body('stops', TEXT, { stream: true, max_tokens: 4_000 })
    const opened = await open(stack.url + TABLE[0]!.path, { headers: keyOf(stack), body })
    await opened.until(/(data: [^]*){4}/)
    sim.abortAll()
    expect((await opened.ended).text).toContain('"finish_reason":"abort"')
    const { ended } = await eventually(
      () => stack.pool('stops'),
      (status) => inFlight(status) === 0,
    )
    expect(ended).toMatchObject({ done: 0, 'client-left': 0, lost: 0 })
  })

  it.concurrent('the same instance goes on serving others whole', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => stream('whole')))
    for (const { text } of answers) expect(isWhole(text)).toBe(true)
  })
})

describe('a client that leaves the moment it has the last word', () => {
  // Most programs stop reading there: what the stream was must not depend on who closes first.
  it.concurrent.each([
    { pool: 'leaves-done', last: /\[DONE\]/, ending: 'done' as const },
    { pool: 'leaves-failed', last: /"error"/, ending: 'upstream-failed' as const },
  ])('is told as $ending', async ({ pool, last, ending }) => {
    const row = TABLE[0]!
    const body = row.body(pool, TEXT, { stream: true, max_tokens: 12 })
    for (let i = 0; i < 10; i++) {
      await Promise.all(
        [0, 1, 2].map(async () => {
          const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
          await opened.until(last)
          opened.leave('reset')
        }),
      )
    }
    await expectEnding(pool, ending)
  })
})

describe('silence', () => {
  it.concurrent('longer than idle ends the stream with upstream_timeout', async () => {
    const sim = stack.sims['silent']!
    const { text, complete } = await stream('silent')
    const events = eventsOf(text)
    expect(complete).toBe(true)
    expect(JSON.parse(events.pop()!)).toMatchObject({
      error: { code: 'upstream_timeout', type: 'server_error', param: null },
    })
    expect(textIn(text.slice(0, text.lastIndexOf('data: ')))).not.toBe('')
    expect(text).not.toContain('[DONE]')
    await eventually(
      () => sim.state().running,
      (running) => running === 0,
    )
    await expectEnding('silent', 'timed-out')
    expect(sim.requests().at(-1)?.outcome).not.toBe('done')
  })

  it.concurrent('comments do not keep a dead stream alive', async () => {
    const { text } = await stream('alive')
    expect(text).toContain(': keep-alive\n\n')
    expect(text).toContain('"upstream_timeout"')
    await expectEnding('alive', 'timed-out')
  })

  it.concurrent('comments pass while the stream lives, and hurt nothing', async () => {
    const row = TABLE[0]!
    const body = row.body('slow', TEXT, { stream: true, max_tokens: 6 })
    const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
    await opened.until(/: keep-alive\n\n[^]*data: /)
    const { text } = await opened.ended
    expect(isWhole(text)).toBe(true)
    const error = await sdk(stack)
      .chat.completions.stream({
        model: 'slow',
        messages: [{ role: 'user', content: TEXT }],
        max_tokens: 4,
      })
      .done()
      .catch((error: unknown) => error)
    expect(error).toBeUndefined()
    await expectEnding('slow', 'done')
  })

  it.concurrent('not streamed, is a 504 in the words of the contract', async () => {
    const row = TABLE[0]!
    const { status, text } = await ask(stack.url + row.path, {
      headers: keyOf(stack),
      body: row.body('silent', TEXT, { max_tokens: TOKENS }),
    })
    expect(status).toBe(504)
    expect(JSON.parse(text)).toMatchObject({ error: { code: 'upstream_timeout' } })
  })

  it.concurrent('an SDK throws the timeout as an error of the API', async () => {
    const { text, error } = await throughSdk('alive')
    expect(text).not.toBe('')
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ code: 'upstream_timeout' })
  })
})
