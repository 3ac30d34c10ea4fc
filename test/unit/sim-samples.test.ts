import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { call, framesOf } from './sim-wire.ts'

/** Recorded from a real server: the request, a blank line, the answer with its headers. */
const FOLDER = new URL('../fixtures/vllm-samples/', import.meta.url)

interface Sample {
  readonly method: string
  readonly path: string
  readonly withKey: boolean
  readonly body: string
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

function read(name: string): Sample {
  const lines = readFileSync(new URL(name, FOLDER), 'utf8').split('\n')
  const [method = '', path = ''] = (lines[0] ?? '').split(' ')
  const from = lines.findIndex((line, i) => i > 1 && /^\d{3}$/.test(line))
  const to = lines.indexOf('', from)
  const headers = lines.slice(from + 1, to).map((line) => {
    const colon = line.indexOf(': ')
    return [line.slice(0, colon), line.slice(colon + 2)] as const
  })
  return {
    method,
    path,
    withKey: !(lines[0] ?? '').includes('no key'),
    body: lines[1] ?? '',
    status: Number(lines[from]),
    headers: Object.fromEntries(headers),
    text: lines.slice(to + 1).join('\n'),
  }
}

/** Values that differ from run to run or from model to model: only their type is compared. */
const VOLATILE =
  /^(id|item_id|created|created_at|content|text|delta|token|logprob|bytes|(prompt|total|input|original_input)_tokens|(prompt_)?token_ids|sequence_number)$/

function shape(value: unknown, key = ''): unknown {
  const isText = typeof value !== 'object' || value === null
  if (VOLATILE.test(key) && isText) return typeof value
  if (isText) return value
  if (Array.isArray(value)) {
    const isNumbers = value.length > 0 && value.every((item) => typeof item === 'number')
    return isNumbers ? ['number'] : value.map((item: unknown) => shape(item, key))
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, shape(inner, name)]),
  )
}

/** A JSON text whose key order matters, volatile values replaced by their types. */
const ordered = (json: string): string => JSON.stringify(shape(JSON.parse(json)), null, 1)

/** Frames in order, per choice: how choices interleave is the engine's affair. */
function sequence(text: string): string[] {
  const frames = framesOf(text).map(({ event, data }) => {
    const index = data === '[DONE]' ? '' : (/"index":(\d+)/.exec(data)?.[1] ?? '')
    return { index, line: `${event ?? ''} ${data === '[DONE]' ? data : ordered(data)}` }
  })
  return frames
    .filter(({ index }) => index !== '1')
    .concat(frames.filter(({ index }) => index === '1'))
    .map(({ line }) => line)
}

const withoutRuns = (lines: readonly string[]): string[] =>
  lines.filter((line, i) => line !== lines[i - 1])

const comparable = (headers: Readonly<Record<string, string>>) =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => name !== 'date' && name !== 'content-length')
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  )

/** What of a body is compared, by the kind of its answer. */
function comparison(name: string, sample: Sample, text: string): unknown {
  if ((sample.headers['content-type'] ?? '').startsWith('text/event-stream')) {
    // The recorded responses stream carries two tokens in one delta.
    return name.startsWith('responses') ? withoutRuns(sequence(text)) : sequence(text)
  }
  // How many characters the chat template adds is the model's own.
  if (name === 'error-prompt-too-long.txt') return text.replace(/\b16\d{3}\b/g, 'N').trim()
  return sample.status >= 400 || text.trim() === '' ? text.trim() : ordered(text)
}

const NAMES = readdirSync(FOLDER).filter((name) => name !== 'metrics.txt')

describe('the simulator, held against a real server', () => {
  let sim: Sim
  beforeAll(async () => {
    sim = await startSim({ model: 'tiny', maxModelLen: 512, apiKey: 'k', profile: 'instant' })
  })
  afterAll(() => sim.close())

  const answerTo = (name: string, sample: Sample) =>
    call(sim, sample.method, sample.path, sample.body, {
      ...(sample.withKey ? { authorization: 'Bearer k' } : {}),
      ...(name === 'error-content-type.txt' ? { 'content-type': 'text/plain' } : {}),
    })

  it.each(NAMES)('answers the request of %s with the same shape', async (name) => {
    const sample = read(name)
    const answer = await answerTo(name, sample)
    expect(answer.status).toBe(sample.status)
    expect(comparable(answer.headers)).toEqual(comparable(sample.headers))
    expect(comparison(name, sample, answer.text)).toEqual(comparison(name, sample, sample.text))
  })

  it('has every metric of the recorded page, with its type, labels and buckets', async () => {
    const recorded = readFileSync(new URL('metrics.txt', FOLDER), 'utf8')
    for (const name of NAMES) await answerTo(name, read(name))
    const { text, headers } = await call(sim, 'GET', '/metrics')
    expect(headers['content-type']).toMatch(/^text\/plain; version=/)
    const series = (page: string, engine: boolean) =>
      page
        .split('\n')
        .filter(
          (line) => /vllm:/.test(line) === engine && line !== '' && !line.startsWith('# HELP'),
        )
        // Values differ, and so do those that describe the machine.
        .map((line) => (line.startsWith('#') ? line : line.slice(0, line.lastIndexOf(' '))))
        .map((line) =>
          line.startsWith('vllm:cache_config') ? line.replaceAll(/"[^"]*"/g, '""') : line,
        )
    expect(series(text, true)).toEqual(series(recorded, true))
    // Which routes have been asked differs; the names, types and labels do not.
    const names = (page: string) => [
      ...new Set(series(page, false).map((line) => line.replaceAll(/(\w+)="[^"]*"/g, '$1'))),
    ]
    expect(names(text)).toEqual(names(recorded))
  })
})
