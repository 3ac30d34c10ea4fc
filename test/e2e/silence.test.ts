/** Streams that fall silent in the middle, and comments that hide it: only data is a sign of life. */
import { APIError } from 'openai'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import { eventsOf, inFlight, isWhole, keyOf, sdk, textIn } from '../support/e2e-api.ts'
import { ask, open } from '../support/e2e-http.ts'
import { readAll, SDK_STREAMS } from '../support/e2e-sdk.ts'
import { ALL, CHAT, errorShape, NAMED } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const IDLE = '900ms'
/** One token, then nothing for as long as any test may take. */
const SILENT = { ttftBaseMs: 5, itlBaseMs: 600_000, prefillMsPerToken: 0 }
const SLOW = { ttftBaseMs: 5, itlBaseMs: 350 }
const TEXT = 'tell me more'

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...['silent', 'waits', 'alive'].map((pool) => ({
        id: pool,
        pool,
        slots: 64,
        options: { profile: SILENT },
      })),
      { id: 'slow', pool: 'slow', options: { profile: SLOW } },
    ],
    fleet: { defaults: { timeouts: { idle: IDLE } } },
  })
  for (const pool of ['alive', 'slow'])
    await stack.sims[pool]!.setFault({ kind: 'keep-alive', everyMs: 60 })
})
afterAll(() => stack?.stop())

/** Every request of a pool has been given back as what it was, and as nothing else. */
const expectEnding = async (pool: string, ending: Ending): Promise<void> => {
  const { ended, granted } = await eventually(
    () => stack.pool(pool),
    (status) => inFlight(status) === 0 && status.ended[ending] > 0,
  )
  expect(ended).toMatchObject({ [ending]: granted })
}

it.concurrent('longer than idle ends the stream with upstream_timeout, on every endpoint', async () => {
  const sim = stack.sims['silent']!
  await Promise.all(
    NAMED.map(async ({ row, modelOf }) => {
      const body = row.body(modelOf('silent'), TEXT, { stream: true, max_tokens: 40 })
      const { text, complete } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
      expect(complete).toBe(true)
      const events = eventsOf(text)
      expect(JSON.parse(events.pop()!)).toEqual(
        errorShape(row, { code: 'upstream_timeout', says: /stopped sending.*incomplete/ }),
      )
      expect(textIn(events.map((event) => `data: ${event}\n\n`).join(''))).not.toBe('')
      expect(text).not.toMatch(/\[DONE\]|"response\.completed"|"message_stop"/)
    }),
  )
  await eventually(
    () => sim.state().running,
    (running) => running === 0,
  )
  await expectEnding('silent', 'timed-out')
  expect(sim.requests().filter(({ outcome, stream }) => stream && outcome === 'done')).toEqual([])
})

it.concurrent('not streamed, is a 504 in the words of the contract', async () => {
  await Promise.all(
    ALL.filter(({ assembled }) => assembled).map(async (row) => {
      const body = row.body('waits', TEXT, { max_tokens: 40 })
      const { status, text } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
      expect({ path: row.path, status }).toEqual({ path: row.path, status: 504 })
      const said = row.errors === 'anthropic' ? { type: 'api_error' } : { code: 'upstream_timeout' }
      expect(JSON.parse(text)).toMatchObject({ error: said })
    }),
  )
  await expectEnding('waits', 'timed-out')
})

it.concurrent('comments do not keep a dead stream alive', async () => {
  for (const model of ['alive', 'alive-alias']) {
    const body = CHAT.body(model, TEXT, { stream: true, max_tokens: 40 })
    const { text } = await ask(stack.url + CHAT.path, { headers: keyOf(stack), body })
    expect(text).toContain(': keep-alive\n\n')
    expect(text).toContain('"upstream_timeout"')
  }
  await expectEnding('alive', 'timed-out')
})

it.concurrent('comments pass while the stream lives, and hurt nothing', async () => {
  for (const model of ['slow', 'slow-alias']) {
    const body = CHAT.body(model, TEXT, { stream: true, max_tokens: 6 })
    const opened = await open(stack.url + CHAT.path, { headers: keyOf(stack), body })
    await opened.until(/: keep-alive\n\n[^]*data: /)
    const { text } = await opened.ended
    expect(isWhole(text)).toBe(true)
  }
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

it.concurrent('an SDK throws the timeout as an error of the API', async () => {
  const asked = { model: 'alive', text: TEXT, tokens: 40 }
  const { text, error } = await readAll(SDK_STREAMS[CHAT.path]!(stack, asked))
  expect(text).not.toBe('')
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({ code: 'upstream_timeout' })
})
