import { describe, expect, it } from 'vitest'
import { END, type Dialect } from '../../worker/dialects/dialect.ts'
import { dataOf } from '../../worker/forward/frames.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { recorded, sse } from './core-builders.ts'
import { event, framesIn, saidIn } from './core-recorded.ts'

/** As vLLM 0.33 writes it: no index, a choice's end with its last text, usage where it was asked for. */
const audioStream = (object: string): string => {
  const head = { id: 'transcribe-1', object, created: 1_795_364_884, model: 'tiny' }
  return sse(
    { ...head, choices: [{ delta: { content: '' } }] },
    { ...head, choices: [{ delta: { content: ' Ask' } }] },
    { ...head, choices: [{ delta: { content: ' not.' }, finish_reason: 'stop' }] },
    { ...head, choices: [], usage: { prompt_tokens: 54, total_tokens: 57, completion_tokens: 3 } },
    '[DONE]',
  )
}

interface Sample {
  readonly stream: string
  /** The data frames before the first content. */
  readonly before: number
  readonly tokens: object
  /** How many frames carry the model's name. */
  readonly named: number
}

/** For every endpoint that streams, a stream of a real vLLM. */
const SAMPLES: Readonly<Record<string, Sample>> = {
  '/v1/chat/completions': {
    stream: recorded('chat-stream-usage').text,
    before: 1,
    tokens: { prompt: 15, completion: 4, cached: null },
    named: 6,
  },
  '/v1/completions': {
    stream: recorded('completion-stream').text,
    before: 0,
    tokens: { prompt: 2, completion: 3, cached: null },
    named: 4,
  },
  '/v1/responses': {
    stream: recorded('responses-stream').text,
    before: 4,
    tokens: { prompt: 15, completion: 4, cached: 0 },
    named: 3,
  },
  '/v1/messages': {
    stream: recorded('messages-stream').text,
    before: 2,
    tokens: { prompt: 15, completion: 4, cached: null },
    named: 1,
  },
  '/v1/audio/transcriptions': {
    stream: audioStream('transcription.chunk'),
    before: 1,
    tokens: { prompt: 54, completion: 3, cached: null },
    named: 4,
  },
  '/v1/audio/translations': {
    stream: audioStream('translation.chunk'),
    before: 1,
    tokens: { prompt: 54, completion: 3, cached: null },
    named: 4,
  },
}

const STREAMING = ENDPOINTS.flatMap(({ path, dialect }) =>
  dialect ? [{ path, dialect, ...SAMPLES[path]! }] : [],
)

/** The first and last of the frames that mention usage. */
const usageFrames = (stream: string) => {
  const told = saidIn(
    framesIn(stream)
      .filter((frame) => frame.includes('"usage"'))
      .join(''),
  )
  return [told[0], told.at(-1)].filter((frame) => frame !== undefined)
}

describe('the table of endpoints', () => {
  it('has every path that tenants may post to, and no other', () => {
    expect(ENDPOINTS.map(({ path }) => path).toSorted()).toEqual([
      '/v1/audio/transcriptions',
      '/v1/audio/translations',
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/embeddings',
      '/v1/messages',
      '/v1/messages/count_tokens',
      '/v1/rerank',
      '/v1/responses',
      '/v1/score',
    ])
  })

  it('reads forms where audio is sent, and speaks as Anthropic where Anthropic is spoken to', () => {
    const those = (is: (endpoint: (typeof ENDPOINTS)[number]) => boolean): string[] =>
      ENDPOINTS.filter(is).map(({ path }) => path)
    expect(those(({ body }) => body === 'multipart')).toEqual(
      those(({ path }) => path.includes('/audio/')),
    )
    expect(those(({ errors }) => errors === 'anthropic')).toEqual(
      those(({ path }) => path.includes('/messages')),
    )
  })
})

describe.each(STREAMING)('$path', ({ path, dialect, stream, before, tokens, named }) => {
  const frames = framesIn(stream)
  const said = saidIn(stream)

  it('sees its first content', () => {
    const meanings = said.map(dialect.meaning)
    expect(meanings.findIndex((meaning) => meaning !== 'nothing')).toBe(before)
    expect(meanings[before]).toBe('content')
  })

  it('sees its end, in its last frame and in no other (L29)', () => {
    const ends = (frame: string): boolean => {
      const data = dataOf(frame)!
      return data === END
        ? dialect.doneMark
        : dialect.notable(frame) && dialect.meaning(JSON.parse(data)) === 'end'
    }
    expect(frames.map(ends)).toEqual(frames.map((_, i) => i === frames.length - 1))
  })

  it('reads what was used', () => {
    expect(dialect.tokensOf(usageFrames(stream))).toEqual(tokens)
    expect(dialect.tokensOf([])).toBeNull()
  })

  it("puts another name in place of the model's, and changes nothing else", () => {
    let found = 0
    for (const frame of frames) {
      const renamed = dialect.rename(frame, 'tiny', 'a "new" name')
      const data = dataOf(frame)!
      if (data === END || dialect.modelOf(JSON.parse(data)) === null) {
        expect(renamed).toBe(frame)
        continue
      }
      found++
      expect(dialect.modelOf(JSON.parse(dataOf(renamed)!))).toBe('a "new" name')
      expect(renamed.replace(String.raw`"a \"new\" name"`, '"tiny"')).toBe(frame)
      expect(dialect.rename(frame, 'other', 'x')).toBe(frame)
    }
    expect(found).toBe(named)
    const places = dialect.modelIn === 'first-frame' ? [0] : said.flatMap((_, i) => [i])
    expect(places).toEqual(expect.arrayContaining(placesOf(dialect)))
  })

  it('tells an error in one whole frame, which it takes for one itself', () => {
    const error = {
      message: 'Lost\n\nin "transit".',
      type: 'server_error',
      param: null,
      code: 'upstream_failed',
    }
    const frame = dialect.errorFrame(error)
    expect(framesIn(frame)).toEqual([frame])
    expect(frame.split('\ndata:').length + Number(frame.startsWith('data:'))).toBe(2)
    expect(dialect.notable(frame)).toBe(true)
    const told = JSON.parse(dataOf(frame)!)
    expect(dialect.meaning(told)).toBe('error')
    expect(told).toMatchObject({ error: { message: error.message } })
  })

  it('makes of its stream an answer, unless what it answers is not always JSON', () => {
    const answer = dialect.assemble?.(said, {}) ?? null
    expect(answer !== null).toBe(!path.includes('/audio/'))
    expect(dialect.assemble === null).toBe(path.includes('/audio/'))
    // Without its last frames it is none.
    expect(dialect.assemble?.(said.slice(0, before + 1), {}) ?? null).toBeNull()
  })

  function placesOf({ modelOf }: Dialect): number[] {
    return said.flatMap((frame, i) => (modelOf(frame) === null ? [] : [i]))
  }
})

it('has a sample for every endpoint that streams', () => {
  expect(Object.keys(SAMPLES).toSorted()).toEqual(STREAMING.map(({ path }) => path).toSorted())
})

it('writes events as they are recorded', () => {
  const [first] = framesIn(recorded('messages-stream').text)
  expect(event(JSON.parse(dataOf(first!)!))).toBe(first)
})
