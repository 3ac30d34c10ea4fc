import { expect, it } from 'vitest'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { ask } from './core-ask.ts'
import { eventStream, sse } from './core-builders.ts'

const completions = ENDPOINTS.find(({ path }) => path === '/v1/completions')!

const frame = (text: string, prompt_token_ids: readonly number[] | null = null) => ({
  choices: [{ index: 0, text, prompt_token_ids, token_ids: null }],
})

it('an echo has the ids of its prompt though nobody asked for any: a cut stream is billed by its frames', async () => {
  const { answer, bills, over } = ask({
    endpoint: completions,
    body: { stream: true, echo: true, prompt: 'Once' },
    instances: { a: () => eventStream(sse(frame('Once upon', [7, 8, 9]), frame(' a'))) },
  })
  await (await answer).text()
  await over()
  const promptTokens = 3
  expect(bills).toMatchObject([{ promptTokens, completionTokens: 2, counted: 'estimate' }])
})

it('an answer whose ids were asked for is billed by them', async () => {
  const told = { choices: [{ index: 0, text: 'Once', prompt_token_ids: [7], token_ids: [1, 2] }] }
  const { answer, bills, over } = ask({
    endpoint: completions,
    body: { stream: true, prompt: 'Once' },
    instances: { a: () => eventStream(sse(told)) },
  })
  await (await answer).text()
  await over()
  expect(bills).toMatchObject([{ promptTokens: 1, completionTokens: 2, counted: 'ids' }])
})
