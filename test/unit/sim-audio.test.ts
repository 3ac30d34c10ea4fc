import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { at, eventsOf, framesOf, list, text } from './sim-wire.ts'

/** A WAV of silence: 16-bit mono at 16 kHz. */
function wav(seconds: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(44 + seconds * 32_000)
  const view = new DataView(bytes.buffer)
  bytes.set(Buffer.from('RIFF'), 0)
  bytes.set(Buffer.from('WAVEfmt '), 8)
  view.setUint32(24, 16_000, true)
  view.setUint32(28, 32_000, true)
  return bytes
}

let sim: Sim
beforeAll(async () => {
  sim = await startSim({ model: 'ear', kind: 'transcribe', profile: 'instant' })
})
beforeEach(() => sim.clearRequests())
afterAll(() => sim.close())

const TRANSCRIBE = '/v1/audio/transcriptions'

function send(
  path: string,
  fields: Readonly<Record<string, string>>,
  file: Uint8Array<ArrayBuffer> | null = wav(2),
): Promise<Response> {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  if (file !== null) form.append('file', new File([file], 'a.wav', { type: 'audio/wav' }))
  return fetch(sim.url + path, { method: 'POST', body: form })
}

describe.each([
  [TRANSCRIBE, 'transcription.chunk'],
  ['/v1/audio/translations', 'translation.chunk'],
])('%s', (path, object) => {
  it('says the same streamed and whole', async () => {
    const said: unknown = await (await send(path, { model: 'ear' })).json()
    const stream = await (await send(path, { model: 'ear', stream: 'true' })).text()
    const events = eventsOf(stream)
    expect(framesOf(stream).at(-1)?.data).toBe('[DONE]')
    expect(new Set(events.map((event) => at(event, 'object')))).toEqual(new Set([object]))
    const deltas = events.map((event) => text(event, 'choices', 0, 'delta', 'content'))
    expect(deltas.join('')).toBe(text(said, 'text'))
    expect(text(said, 'text')).not.toBe('')
    expect(at(events.at(-1), 'choices', 0, 'finish_reason')).toBe('stop')
    expect(
      events.slice(0, -1).map((event) => Object.keys(at(event, 'choices', 0) as object)),
    ).toEqual(events.slice(0, -1).map(() => ['delta']))
  })

  it('ends with usage where the form asks for it', async () => {
    const form = { model: 'ear', stream: 'true', stream_include_usage: 'true' }
    const last = eventsOf(await (await send(path, form)).text()).at(-1)
    const [record] = sim.requests()
    expect(list(last, 'choices')).toEqual([])
    expect(at(last, 'usage')).toEqual({
      prompt_tokens: record?.promptTokens,
      total_tokens: (record?.promptTokens ?? 0) + (record?.tokensGenerated ?? 0),
      completion_tokens: record?.tokensGenerated,
    })
  })
})

describe('a transcription', () => {
  it('counts its seconds, rounded up', async () => {
    const answer = await (await send(TRANSCRIBE, { model: 'ear' }, wav(1.5))).json()
    expect(answer).toMatchObject({ usage: { type: 'duration', seconds: 2 } })
    expect(await (await send('/v1/audio/translations', {}, wav(1.5))).json()).not.toHaveProperty(
      'usage',
    )
  })

  it('is the same for the same audio, and has more to say of more', async () => {
    const words = async (file: Uint8Array<ArrayBuffer>): Promise<string> =>
      text(await (await send(TRANSCRIBE, { model: 'ear' }, file)).json(), 'text')
    expect(await words(wav(2))).toBe(await words(wav(2)))
    expect((await words(wav(20))).length).toBeGreaterThan(2 * (await words(wav(2))).length)
  })

  it('gives segments for verbose_json', async () => {
    const form = { model: 'ear', response_format: 'verbose_json', language: 'de' }
    const answer: unknown = await (await send(TRANSCRIBE, form)).json()
    expect(answer).toMatchObject({ duration: '2', language: 'de' })
    expect(at(answer, 'segments', 0, 'text')).toBe(at(answer, 'text'))
  })

  it('keeps fields, headers and the file’s size in the record', async () => {
    await send(TRANSCRIBE, { model: 'ear', temperature: '0.5', prompt: 'hm' })
    expect(sim.requests()[0]).toMatchObject({
      body: {
        model: 'ear',
        temperature: 0.5,
        prompt: 'hm',
        file: { name: 'a.wav', type: 'audio/wav', size: 64_044 },
      },
      headers: { 'content-type': expect.stringContaining('multipart/form-data') },
    })
    expect(Object.keys(at(sim.requests()[0], 'body', 'file') as object)).not.toContain('bytes')
  })

  it.each([
    ['no file', { model: 'ear' }, null, 400, 'body.file'],
    ['another model', { model: 'nose' }, wav(1), 404, 'model'],
    ['a file over 25 MiB', { model: 'ear' }, wav(820), 400, 'audio_filesize_mb'],
    ['an unknown format', { model: 'ear', response_format: 'srt' }, wav(1), 400, null],
    [
      'usage without a stream',
      { model: 'ear', stream_include_usage: 'true' },
      wav(1),
      400,
      'stream_include_usage',
    ],
  ])('is refused for %s', async (_, form, file, status, param) => {
    const answer = await send(TRANSCRIBE, form, file)
    expect(answer.status).toBe(status)
    expect(await answer.json()).toMatchObject({ error: { code: status, param } })
  })

  it('takes the only model there is where the form names none', async () => {
    expect((await send(TRANSCRIBE, {})).status).toBe(200)
  })

  it('is what the openai client can read', async () => {
    const openai = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: 'k', maxRetries: 0 })
    const file = new File([wav(2)], 'a.wav')
    const answer = await openai.audio.transcriptions.create({ file, model: 'ear' })
    expect(answer.text).not.toBe('')
  })
})
