/** Nothing a tenant says, and no key, is written anywhere, whatever goes wrong. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import { ask, open } from '../support/e2e-http.ts'
import { inFlight, keyOf, textIn } from '../support/e2e-api.ts'
import { ALL, CHAT, STREAMED } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Short, so that a message which quotes a few characters of a body would show it. */
const MARKER = 'zanzibar'

let stack: Stack
beforeAll(async () => {
  const profile = { ttftBaseMs: 2, itlBaseMs: 5 }
  stack = await startStack({
    viaNginx: true,
    sims: ['a', 'b'].map((id) => ({
      id,
      pool: 'pool',
      slots: 64,
      options: { profile, maxModelLen: 400 },
    })),
    pools: { pool: { timeouts: { first_byte: '600ms', idle: '600ms' } } },
  })
})
afterAll(() => stack?.stop())

const FAULTS: readonly (Fault | null)[] = [
  null,
  { kind: 'status', status: 500 },
  { kind: 'html', scope: 'inference' },
  { kind: 'cut', afterChunks: 0 },
  { kind: 'cut', afterChunks: 4, midFrame: true },
  { kind: 'stream-error', code: 500, afterChunks: 3 },
  { kind: 'stream-error', code: 400 },
  { kind: 'hang', scope: 'inference' },
  { kind: 'refuse' },
]

it('no prompt, answer, key or body in the logs', async () => {
  const answers: string[] = []
  for (const fault of FAULTS) {
    for (const sim of Object.values(stack.sims)) await sim.setFault(fault)
    await Promise.all(
      ALL.flatMap((row) =>
        [true, false].map(async (stream) => {
          const body = row.body('pool', MARKER, { stream, max_tokens: 8, user: `${MARKER}-user` })
          const { text } = await ask(stack.url + row.path, { headers: keyOf(stack), body })
          if (fault === null && STREAMED.includes(row)) answers.push(textIn(text))
        }),
      ),
    )
  }
  for (const sim of Object.values(stack.sims)) await sim.setFault(null)
  // What we refuse ourselves: JSON that stops in the middle of the prompt, a prompt too long, a wrong key.
  const raw = (body: string | object, headers = keyOf(stack)) =>
    ask(stack.url + CHAT.path, { headers, body })
  await raw(`{"model":"pool","messages":[{"role":"user","content":"${MARKER}`)
  await raw(MARKER)
  await raw(`{"model":"pool","messages":[{"role":"user","content":"x"}] ${MARKER}`)
  await raw({ model: MARKER, messages: [] })
  await raw({ model: 'pool', stream: MARKER })
  await raw(CHAT.body('pool', `${MARKER} `.repeat(500)))
  await raw({ model: 'pool', messages: MARKER })
  await raw({}, { authorization: `Bearer ${stack.apiKey}x` })
  await ask(`${stack.url}/v1/nothing?key=${stack.apiKey}&q=${MARKER}`, { headers: keyOf(stack) })
  const body = CHAT.body('pool', MARKER, { stream: true, max_tokens: 300 })
  const opened = await open(stack.url + CHAT.path, { headers: keyOf(stack), body })
  await opened.until(/data: /)
  opened.leave('reset')
  await stack.crashPool('pool')
  await eventually(
    () => stack.pool('pool'),
    (status) => inFlight(status) === 0,
    8_000,
  )
  await sleep(100) // lines on their way

  const logs = stack.logs().join('\n')
  expect(logs).toContain('upstream_failed') // the log is there, and it tells of faults
  expect(logs).not.toContain(MARKER)
  expect(logs).not.toContain(stack.apiKey)
  expect(logs).not.toContain(stack.apiKey.split('_')[3])
  expect(logs).not.toContain(stack.adminToken)
  expect(logs).not.toContain('node-key-for-tests')
  expect(answers).toHaveLength(2 * STREAMED.length)
  for (const answer of answers) {
    expect(answer.length).toBeGreaterThan(20)
    expect(logs).not.toContain(answer.slice(0, 20))
  }
})
