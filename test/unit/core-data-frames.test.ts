import { describe, expect, it } from 'vitest'
import { dataFrames } from '../../worker/forward/data-frames.ts'
import { bodyIn, bodyOf, settled, sse } from './core-builders.ts'

const never = new AbortController().signal

/** What is read of a body, by one who takes it as it comes. */
function reading(body: ReadableStream<Uint8Array> | null, signal = never) {
  const seen: { readonly data: (string | null)[]; over: boolean } = { data: [], over: false }
  const read = async (): Promise<void> => {
    for await (const data of dataFrames(body, signal)) seen.data.push(data)
    seen.over = true
  }
  void read()
  return seen
}

describe('dataFrames', () => {
  it('goes on to the end of the body after [DONE], and tells nothing of what comes there (L29)', async () => {
    const body = bodyOf(sse('a', '[DONE]', 'b'))
    const seen = reading(body.stream)
    await settled()
    expect(seen).toEqual({ data: ['a', '[DONE]'], over: false })
    expect(body.cancelled, 'its writer would take that for one who left').toBe(false)
    body.push(sse('c'))
    await settled()
    body.end()
    await settled()
    expect(seen).toEqual({ data: ['a', '[DONE]'], over: true })
    expect(body.cancelled).toBe(false)
  })

  it('gives up the body of one who stops reading', async () => {
    const body = bodyOf(sse('a'))
    for await (const data of dataFrames(body.stream, never)) if (data === 'a') break
    expect(body.cancelled).toBe(true)
  })

  it('reads nothing for one who had left before', async () => {
    const body = bodyOf(sse('a'))
    const seen = reading(body.stream, AbortSignal.abort())
    await settled()
    expect(seen).toEqual({ data: [], over: true })
    expect(body.cancelled).toBe(true)
  })

  it('has nothing of an answer without a body', async () => {
    const seen = reading(null)
    await settled()
    expect(seen).toEqual({ data: [], over: true })
  })

  it('leaves out a frame that is not whole', async () => {
    const seen = reading(bodyIn([sse('a'), 'data: half']))
    await settled()
    expect(seen).toEqual({ data: ['a'], over: true })
  })
})
