import { describe, expect, it } from 'vitest'
import { hasPictures, promptEstimate } from '../../worker/ingress/estimate.ts'

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
    { body: { tools: [HUNDRED] }, why: 'a tool' },
    { body: { text_1: HUNDRED.slice(200), text_2: HUNDRED.slice(200) }, why: 'a score' },
    { body: { query: { content: [{ text: HUNDRED }] } }, why: 'a query in parts' },
    { body: { prompt: `data: ${HUNDRED.slice(6)}` }, why: 'a text that begins like a data URL' },
  ])('is about a token for four characters: $why', ({ body }) => {
    expect(promptEstimate(body)).toBe(100)
  })

  it.each([
    { part: { image_url: { url: `data:image/png;base64,${HUNDRED}` } }, why: 'a picture' },
    { part: { input_audio: { data: HUNDRED, format: '' } }, why: 'sound' },
    { part: { source: { type: '', media_type: '', data: HUNDRED } }, why: "Anthropic's picture" },
    { part: { image_url: `data:image/png;base64,${HUNDRED}` }, why: "the Responses API's" },
    { part: { content: [{ source: { data: HUNDRED } }] }, why: "a picture in a tool's result" },
  ])('does not count what is no text, however long its base64 is (L38): $why', ({ part }) => {
    expect(promptEstimate({ messages: [{ content: [part] }] })).toBe(0)
  })

  const hidden = `data:a/b;${HUNDRED}`
  it.each([
    { body: { prompt: hidden }, why: 'a prompt' },
    { body: { input: [hidden] }, why: 'an input' },
    { body: { messages: [{ content: hidden }] }, why: 'a message' },
    { body: { messages: [{ content: [{ type: 'text', text: hidden }] }] }, why: 'a part' },
    { body: { messages: [{ content: [hidden] }] }, why: 'a part that is a text' },
    { body: { messages: [{ content: '', data: HUNDRED }] }, why: 'a field of a turn' },
    { body: { messages: [{ image_url: { data: HUNDRED } }] }, why: 'a picture that is no part' },
    { body: { tools: [{ data: HUNDRED }] }, why: 'a tool' },
    { body: { tools: [{ content: [{ source: { data: HUNDRED } }] }] }, why: "a tool's picture" },
    { body: { tools: [{ [HUNDRED]: {} }] }, why: "a tool's keys" },
    {
      body: {
        messages: [{ content: [{ type: 'tool_use', input: { source: { data: HUNDRED } } }] }],
      },
      why: 'what a tool was called with',
    },
    {
      body: { messages: [{ content: [{ source: { type: 'text', data: HUNDRED } }] }] },
      why: "Anthropic's source that is text",
    },
  ])('takes no text for base64, wherever it hides: $why', ({ body }) => {
    expect(promptEstimate(body)).toBeGreaterThanOrEqual(100)
    expect(promptEstimate(body), 'but for a few words of JSON').toBeLessThan(115)
  })

  it.each([
    { body: {}, why: 'nothing' },
    { body: { prompt: null }, why: 'null' },
    { body: { user: HUNDRED, metadata: { note: HUNDRED } }, why: 'what the model never reads' },
  ])('of $why is 0', ({ body }) => {
    expect(promptEstimate(body)).toBe(0)
  })
})

it('takes an ideograph for more of a token than a letter, in short texts and in long ones', () => {
  const content = (text: string) => promptEstimate({ messages: [{ role: 'user', content: text }] })
  const words = content('abcd'.repeat(1_000))
  const signs = content('水轮机组'.repeat(1_000))
  expect(signs / words).toBeCloseTo(2.5, 1)
  const mixed = content('abcd水轮机组'.repeat(1_000))
  expect(mixed / (words + signs)).toBeCloseTo(1, 1)
})

describe('pictures and sound in a prompt (L38)', () => {
  const MEDIA = { image: 1_000, audioSecond: 10 }
  const tokensOf = (...content: readonly unknown[]): number =>
    promptEstimate({ messages: [{ role: 'user', content }] }, MEDIA)
  /** Base64 of so many seconds of 16 kHz sound. */
  const sound = (seconds: number): string => 'A'.repeat((seconds * 32_000 * 4) / 3)
  const url = (kind: string): string => `data:${kind};base64,${HUNDRED}`

  it.each([
    {
      part: { type: 'image_url', image_url: { url: url('image/png') } },
      why: 'a picture in the body',
    },
    { part: { type: 'image_url', image_url: { url: 'x' } }, why: 'a picture elsewhere' },
    { part: { type: 'input_image', image_url: url('image/png') }, why: "the Responses API's" },
    { part: { type: 'image', source: { type: 'base64', data: HUNDRED } }, why: "Anthropic's" },
    { part: { type: 'video_url', video_url: { url: url('video/mp4') } }, why: 'a video' },
  ])("count by the pool's figure, whatever their bytes: $why", ({ part }) => {
    const more = tokensOf(part) - 1_000
    expect(more).toBeGreaterThanOrEqual(0)
    expect(more, 'but for a few words of JSON').toBeLessThan(10)
    expect(tokensOf(part, part) - 2 * tokensOf(part)).toBeCloseTo(0, -1)
  })

  it('are found among what the Responses API takes as input', () => {
    const input = [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }]
    expect(promptEstimate({ input }, MEDIA)).toBeGreaterThanOrEqual(1_000)
  })

  it.each([
    { seconds: 1, tokens: 10 },
    { seconds: 30, tokens: 300 },
  ])('count $tokens for $seconds s of sound', ({ seconds, tokens }) => {
    const data = sound(seconds)
    const parts = [
      { type: 'input_audio', input_audio: { data, format: 'wav' } },
      { type: 'audio_url', audio_url: { url: `data:audio/wav;base64,${data}` } },
      { audio_url: `data:audio/wav;base64,${data}` },
    ]
    for (const part of parts) {
      expect(tokensOf(part)).toBeGreaterThanOrEqual(tokens)
      expect(tokensOf(part), 'its base64 is no text').toBeLessThan(tokens + 20)
    }
  })

  it.each([
    { part: { type: 'input_audio', input_audio: { data: '' } }, why: 'empty' },
    { part: { type: 'input_audio' }, why: 'not there' },
    { part: { type: 'audio_url', audio_url: { url: 'x' } }, why: 'elsewhere' },
  ])('count for a second at least where the sound is $why', ({ part }) => {
    expect(tokensOf(part)).toBeGreaterThanOrEqual(10)
    expect(tokensOf(part)).toBeLessThan(30)
  })

  it.each([{ toString: 1 }, { toString: null }, [{ toString: 1 }], 7, null])(
    'are of no type that is no text: %j',
    (type) => {
      const body = { messages: [{ content: [{ type, text: HUNDRED }] }] }
      const media = { image: 1_000, audioSecond: 1_000 }
      expect(promptEstimate(body, media)).toBeLessThan(200)
      expect(hasPictures(body)).toBe(false)
    },
  )

  it('are looked for up to the first one, and no further', () => {
    const later = new Proxy(
      {},
      {
        has: () => {
          throw new Error('looked at')
        },
      },
    )
    const content = [{ type: 'text', text: 'x' }, { type: 'image_url', image_url: {} }, later]
    expect(hasPictures({ messages: [{ content }] })).toBe(true)
  })

  it('add to the text beside them', () => {
    const text = { type: 'text', text: HUNDRED }
    const picture = { type: 'image_url', image_url: { url: '' } }
    const both = tokensOf(text, picture)
    expect(both).toBeGreaterThanOrEqual(1_100)
    expect(Math.abs(both - tokensOf(text) - tokensOf(picture)), 'but for rounding').toBeLessThan(2)
  })

  it('count for nothing where the pool says no figures: a snapshot of the release before', () => {
    const picture = { type: 'image_url', image_url: { url: url('image/png') } }
    expect(promptEstimate({ messages: [{ content: [picture] }] })).toBeLessThan(10)
  })

  it.each([
    { messages: 'text' },
    { messages: [null, 7, 'text', { content: null }, { content: [null, 'image', 7, {}] }] },
    { input: { type: 'image' } },
  ])('are not seen where there are none: %j', (body) => {
    expect(promptEstimate(body, MEDIA)).toBe(promptEstimate(body))
  })
})

it.each([
  { turn: { content: [{ image_url: { url: 'x' } }] }, why: 'a part without a type' },
  { turn: { output: [{ type: 'input_image', image_url: 'x' }] }, why: 'what a function gave' },
  {
    turn: {
      content: [{ type: 'tool_result', content: [{ type: 'image', source: { data: 'AAAA' } }] }],
    },
    why: "a tool's result",
  },
])('a picture counts wherever it stands: $why', ({ turn }) => {
  const media = { image: 1_000, audioSecond: 1 }
  const tokens = promptEstimate({ messages: [{ role: 'user', ...turn }] }, media)
  expect(tokens).toBeGreaterThanOrEqual(1_000)
  expect(tokens).toBeLessThan(1_010)
})
