import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { dataOf, FrameSplitter } from '../../worker/forward/frames.ts'
import { bytes, cuts, recorded } from './core-builders.ts'

type IndexOf<This, What> = (this: This, search: What, from?: number) => number
const TEXT_INDEX_OF = Reflect.get(String.prototype, 'indexOf') as IndexOf<string, string>
const BYTES_INDEX_OF = Reflect.get(Uint8Array.prototype, 'indexOf') as IndexOf<Uint8Array, number>

/** The frames of pieces pushed one after the other. */
function framesOf(...pieces: readonly Uint8Array[]): (string | null)[] {
  const splitter = new FrameSplitter()
  return pieces.flatMap((piece) => splitter.push(piece))
}

const STREAM =
  ': keep-alive\n\ndata: {"a":"€😀"}\n\ndata:x\n\nevent: e\nid: 1\ndata: one\ndata: two\n\n: c\n\ndata: [DONE]\n\n'
const FRAMES = [null, '{"a":"€😀"}', 'x', 'one\ntwo', null, '[DONE]']

describe('FrameSplitter', () => {
  it.each([
    { name: 'line feeds', stream: STREAM },
    { name: 'CRLF', stream: STREAM.replaceAll('\n', '\r\n') },
  ])('gives the same frames wherever the network cuts: $name', ({ stream }) => {
    for (const [head, rest] of cuts(bytes(stream))) expect(framesOf(head, rest)).toEqual(FRAMES)
  })

  it('gives the same frames byte by byte, each as soon as it is whole', () => {
    const splitter = new FrameSplitter()
    const arrivals = [...bytes(STREAM)].map((byte) => splitter.push(new Uint8Array([byte])))
    expect(arrivals.flat()).toEqual(FRAMES)
    expect(Math.max(...arrivals.map((frames) => frames.length))).toBe(1)
    expect(arrivals.at(-1)).toEqual(['[DONE]'])
  })

  it('gives the same frames for any cuts of a recorded stream', () => {
    const whole = bytes(recorded('chat-stream-usage').text)
    const expected = framesOf(whole)
    expect(expected.at(-1)).toBe('[DONE]')
    fc.assert(
      fc.property(fc.array(fc.nat(whole.byteLength), { maxLength: 40 }), (at) => {
        const edges = [0, ...at.toSorted((a, b) => a - b), whole.byteLength]
        const pieces = edges.slice(1).map((edge, i) => whole.subarray(edges[i], edge))
        expect(framesOf(...pieces)).toEqual(expected)
      }),
    )
  })

  it('holds an unfinished frame back', () => {
    const splitter = new FrameSplitter()
    expect(splitter.push(bytes('data: a\n\ndata: b'))).toEqual(['a'])
    expect(splitter.push(bytes('c\n'))).toEqual([])
    expect(splitter.push(bytes('\n'))).toEqual(['bc'])
  })

  it('does not take a line break inside a JSON text for the end of a frame', () => {
    expect(framesOf(bytes('data: {"a":"\\n\\n"}\n\n'))).toEqual(['{"a":"\\n\\n"}'])
  })

  it.each([
    { pieces: 2_000, piece: 'x'.repeat(100), why: 'one frame comes in many pieces' },
    {
      pieces: 1,
      piece: `data: ${'x'.repeat(34)}\n\n`.repeat(5_000),
      why: 'one piece has many frames',
    },
    { pieces: 1_000, piece: 'data: x\n', why: 'a frame has many lines' },
  ])('looks at each byte a constant number of times where $why (L28)', ({ pieces, piece }) => {
    const one = bytes(piece)
    const scanned = scannedBy(() => {
      const splitter = new FrameSplitter()
      for (let i = 0; i < pieces; i++) splitter.push(one)
    })
    expect(scanned).toBeLessThan(pieces * one.byteLength * 4)
  })
})

/** Characters and bytes that `indexOf` went over while `work` ran. */
function scannedBy(work: () => void): number {
  let scanned = 0
  const counted = <This extends { readonly length: number }, What>(original: IndexOf<This, What>) =>
    function (this: This, search: What, from = 0): number {
      const found = original.call(this, search, from)
      scanned += (found === -1 ? this.length : found) - from
      return found
    }
  const inText = vi.spyOn(String.prototype, 'indexOf')
  const inBytes = vi.spyOn(Uint8Array.prototype, 'indexOf')
  inText.mockImplementation(counted(TEXT_INDEX_OF))
  inBytes.mockImplementation(counted(BYTES_INDEX_OF))
  try {
    work()
  } finally {
    inText.mockRestore()
    inBytes.mockRestore()
  }
  return scanned
}

describe('dataOf', () => {
  it.each([
    { frame: 'data: x', data: 'x' },
    { frame: 'data:x', data: 'x' },
    { frame: 'data:  x', data: ' x' },
    { frame: 'data: ', data: '' },
    { frame: 'data:', data: '' },
    { frame: 'data: a\ndata: b', data: 'a\nb' },
    { frame: 'event: message_stop\ndata: {}', data: '{}' },
    { frame: ': keep-alive', data: null },
    { frame: 'event: ping', data: null },
    { frame: 'database: x', data: null },
    { frame: '', data: null },
  ])('of $frame is $data', ({ frame, data }) => {
    expect(dataOf(frame)).toBe(data)
  })
})
