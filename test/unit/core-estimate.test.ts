import { describe, expect, it } from 'vitest'
import { promptEstimate } from '../../worker/ingress/estimate.ts'

const HUNDRED = 'abcd'.repeat(100)

describe('the estimate of a prompt (L30)', () => {
  it.each([
    { body: { prompt: HUNDRED }, why: 'a completion' },
    { body: { prompt: [HUNDRED.slice(200), HUNDRED.slice(0, 200)] }, why: 'two prompts' },
    { body: { prompt: Array.from({ length: 100 }, (_, i) => i) }, why: 'a list of token ids' },
    { body: { prompt: [Array.from({ length: 100 }, (_, i) => i)] }, why: 'a list of such lists' },
    { body: { input: HUNDRED }, why: 'an embedding, a response' },
    { body: { query: HUNDRED.slice(200), documents: [HUNDRED.slice(0, 200)] }, why: 'a reranking' },
    { body: { messages: [{ content: HUNDRED }] }, why: 'a message' },
    { body: { messages: [{ content: [{ text: HUNDRED }] }] }, why: 'a message in parts' },
    { body: { system: HUNDRED, instructions: '' }, why: 'what is said before' },
    { body: { tools: [{ description: HUNDRED }] }, why: 'a tool' },
    { body: { prompt: `data: ${HUNDRED.slice(6)}` }, why: 'a text that begins like a data URL' },
  ])('is about a token for four characters: $why', ({ body }) => {
    expect(promptEstimate(body)).toBe(100)
  })

  it.each([
    { part: { image_url: { url: `data:image/png;base64,${HUNDRED}` } }, why: 'a picture' },
    { part: { input_audio: { data: HUNDRED, format: '' } }, why: 'sound' },
    { part: { source: { type: '', media_type: '', data: HUNDRED } }, why: "Anthropic's picture" },
  ])('does not count what is no text, however long its base64 is (L38): $why', ({ part }) => {
    expect(promptEstimate({ messages: [{ content: [part] }] })).toBe(0)
  })

  it.each([
    { body: {}, why: 'nothing' },
    { body: { prompt: null }, why: 'null' },
    { body: { user: HUNDRED, metadata: { note: HUNDRED } }, why: 'what the model never reads' },
  ])('of $why is 0', ({ body }) => {
    expect(promptEstimate(body)).toBe(0)
  })
})
