/** Streams that break after their content has begun: what came stands, and the end is no success. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Fault } from '../../scripts/sim/faults.ts'
import { eventsOf, inFlight, isWhole, keyOf, textIn } from '../support/e2e-api.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { readAll, SDK_STREAMS } from '../support/e2e-sdk.ts'
import { errorShape, NAMED, type Row } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Frames before the break: the first ones of some endpoints are no text yet. */
const FRAMES = 9

/** Each break has a pool of its own with one instance, so that all can be tried at once. */
const BREAKS: Readonly<Record<string, { readonly fault: Fault; readonly ending: Ending }>> = {
  reset: { fault: { kind: 'cut', afterChunks: FRAMES }, ending: 'truncated' },
  'clean-end': { fault: { kind: 'early-end', afterChunks: FRAMES }, ending: 'truncated' },
  'mid-frame': {
    fault: { kind: 'cut', afterChunks: FRAMES, midFrame: true },
    ending: 'truncated',
  },
  'error-frame': {
    fault: { kind: 'stream-error', code: 500, afterChunks: FRAMES },
    ending: 'upstream-failed',
  },
}
const OTHERS = ['leaves-done', 'leaves-failed', 'stops', 'whole']

let stack: Stack
beforeAll(async () => {
  const options = { profile: { ttftBaseMs: 5, itlBaseMs: 4, prefillMsPerToken: 0 } }
  stack = await startStack({
    viaNginx: true,
    nginxRenames: false, // by an alias, frame by frame
    sims: [...Object.keys(BREAKS), ...OTHERS].map((pool) => ({
      id: pool,
      pool,
      slots: 64,
      options,
    })),
  })
  for (const [pool, { fault }] of Object.entries(BREAKS)) await stack.sims[pool]!.setFault(fault)
  await stack.sims['leaves-failed']!.setFault(BREAKS['error-frame']!.fault)
})
afterAll(() => stack?.stop())

const TOKENS = 40
const TEXT = 'tell me more'

const bodyOf = (row: Row, model: string, tokens = TOKENS) =>
  row.body(model, TEXT, { stream: true, max_tokens: tokens })

const stream = (row: Row, model: string): Promise<Received> =>
  ask(stack.url + row.path, { headers: keyOf(stack), body: bodyOf(row, model) })

/** What the engine would have said. */
const wholeText = async (row: Row): Promise<string> =>
  textIn((await ask(stack.sims['whole']!.url + row.path, { body: bodyOf(row, 'whole') })).text)

/** Every request of a pool has been given back as what it was, and as nothing else. */
const expectEnding = async (pool: string, ending: Ending): Promise<void> => {
  const { ended, granted } = await eventually(
    () => stack.pool(pool),
    (status) => inFlight(status) === 0 && status.ended[ending] > 0,
  )
  expect(ended).toMatchObject({ [ending]: granted })
}

const END = /\[DONE\]|"response\.(?:completed|incomplete)"|"message_stop"/

/** The events before the last one, as a stream, and that last one. */
function lastOf(text: string): { before: string; count: number; last: string } {
  const events = eventsOf(text)
  const last = events.pop() ?? ''
  return { before: events.map((it) => `data: ${it}\n\n`).join(''), count: events.length, last }
}

describe('a stream that breaks after its content has begun', () => {
  it.concurrent.each(
    Object.keys(BREAKS).flatMap((pool) =>
      Object.keys(SDK_STREAMS).flatMap((path) =>
        [pool, `${pool}-alias`].map((model) => ({ pool, path, model })),
      ),
    ),
  )('$model of $path: the SDK throws, the text stands', async ({ pool, path, model }) => {
    const asked = { model, text: TEXT, tokens: TOKENS }
    const whole = await readAll(SDK_STREAMS[path]!(stack, { ...asked, model: 'whole' }))
    expect(whole.error).toBeNull()
    const { text, error } = await readAll(SDK_STREAMS[path]!(stack, asked))
    expect(text.length).toBeGreaterThan(10)
    expect(text.length).toBeLessThan(whole.text.length)
    expect(whole.text.startsWith(text)).toBe(true)
    expect(error).toBeInstanceOf(Error)
    // Half a frame must not be taken for a frame, nor glued to what comes after it (L29b).
    expect(error).not.toBeInstanceOf(SyntaxError)
    expect(String(error)).not.toMatch(/malformed|JSON/i)
    await expectEnding(pool, BREAKS[pool]!.ending)
  })

  it.concurrent.each(
    ['reset', 'clean-end'].flatMap((pool) =>
      NAMED.map((one) => ({ ...one, pool, path: one.row.path })),
    ),
  )(
    '$pool ($path, $way): ends with an error frame and without the end mark',
    async ({ pool, row, modelOf }) => {
      const { status, text, complete } = await stream(row, modelOf(pool))
      expect({ status, complete }).toEqual({ status: 200, complete: true })
      expect(text).not.toMatch(END)
      const { before, count, last } = lastOf(text)
      expect(JSON.parse(last)).toEqual(
        errorShape(row, { code: 'upstream_failed', says: /lost.*incomplete/ }),
      )
      expect(count).toBe(FRAMES)
      expect((await wholeText(row)).startsWith(textIn(before))).toBe(true)
    },
  )

  it.concurrent.each(NAMED)(
    'mid-frame ($row.path, $way): says so, or is broken off where it was',
    async ({ row, modelOf, edited }) => {
      const { text, complete } = await stream(row, modelOf('mid-frame'))
      expect(text).not.toMatch(END)
      for (const event of eventsOf(text)) JSON.parse(event)
      // Frame by frame, the half one was held back; else it did arrive, and nothing can be said after it.
      expect(complete).toBe(edited)
      expect(text.endsWith('\n\n')).toBe(edited)
      expect(eventsOf(text).some((event) => event.includes('"error"'))).toBe(edited)
    },
  )

  it.concurrent.each(NAMED)(
    "the engine's own error frame ($row.path, $way) passes or is told, and is no success",
    async ({ row, modelOf, edited }) => {
      const { text, complete } = await stream(row, modelOf('error-frame'))
      expect(complete).toBe(true)
      expect(isWhole(text)).toBe(false)
      const errors = eventsOf(text).filter((event) => event.includes('"error"'))
      expect(errors).toHaveLength(1) // and we have not added one of ours
      expect(errors[0]).toContain('Internal server error')
      if (!edited) return
      expect(text).not.toMatch(END)
      expect(JSON.parse(errors[0]!)).toEqual(
        errorShape(row, { code: 'upstream_failed', says: /incomplete.*Internal server error/ }),
      )
    },
  )

  it.concurrent('an engine that shuts down in the middle of it has not done it', async () => {
    const streams = await Promise.all(
      NAMED.map(async ({ row, modelOf, edited }) => {
        const body = bodyOf(row, modelOf('stops'), 800)
        const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
        await opened.until(/(data: [^]*){8}/)
        return { row, opened, edited }
      }),
    )
    stack.sims['stops']!.abortAll()
    for (const { row, opened, edited } of streams) {
      const { text, complete } = await opened.ended
      // What was passed on cannot be taken back: a broken connection says that it is no end.
      expect({ path: row.path, edited, complete }).toEqual({
        path: row.path,
        edited,
        complete: edited,
      })
      expect(isWhole(text) && complete).toBe(false)
      if (!edited) continue
      expect(text).not.toMatch(END)
      expect(JSON.parse(lastOf(text).last)).toEqual(
        errorShape(row, { code: 'upstream_failed', says: /incomplete/ }),
      )
    }
    await expectEnding('stops', 'upstream-failed')
  })

  it.concurrent('the same instance goes on serving others whole', async () => {
    for (const { row, modelOf } of NAMED)
      expect(isWhole((await stream(row, modelOf('whole'))).text)).toBe(true)
  })
})

describe('a client that leaves the moment it has the last word', () => {
  // Most programs stop reading there: what the stream was must not depend on who closes first.
  it.concurrent.each([
    { pool: 'leaves-done', last: END, ending: 'done' as const },
    { pool: 'leaves-failed', last: /"error"/, ending: 'upstream-failed' as const },
  ])('is told as $ending', async ({ pool, last, ending }) => {
    for (let i = 0; i < 4; i++) {
      await Promise.all(
        NAMED.map(async ({ row, modelOf }) => {
          const body = bodyOf(row, modelOf(pool), 12)
          const opened = await open(stack.url + row.path, { headers: keyOf(stack), body })
          await opened.until(last)
          opened.leave('reset')
        }),
      )
    }
    await expectEnding(pool, ending)
  })
})
