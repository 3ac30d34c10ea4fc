import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { carriesData, dataOf, FrameSplitter, joined } from '../../worker/forward/frames.ts'
import { ANSWER, bytes, cutAt, cuts, RECORDED, recordedStream, sse } from './core-builders.ts'

type IndexOf<This, What> = (this: This, search: What, from: number) => number
const TEXT_INDEX_OF = Reflect.get(String.prototype, 'indexOf') as IndexOf<string, string>
const BYTES_LAST_INDEX_OF = Reflect.get(Uint8Array.prototype, 'lastIndexOf') as IndexOf<
  Uint8Array,
  number
>

/** The frames of pieces pushed one after the other. */
function framesOf(...pieces: readonly Uint8Array[]): string[] {
  const splitter = new FrameSplitter()
  return pieces.flatMap((piece) => splitter.push(piece))
}

const FRAMES = [
  ': keep-alive\n\n',
  'data: {"a":"€😀"}\n\n',
  'data:x\n\n',
  'event: e\nid: 1\ndata: one\ndata: two\n\n',
  ': c\n\n',
  'data: [DONE]\n\n',
]
const STREAM = FRAMES.join('')
const withCr = (text: string): string => text.replaceAll('\n', '\r\n')

describe('FrameSplitter', () => {
  it.each([
    { name: 'line feeds', stream: STREAM, frames: FRAMES },
    { name: 'CRLF', stream: withCr(STREAM), frames: FRAMES.map(withCr) },
    {
      name: 'both',
      stream: STREAM + withCr(STREAM) + STREAM,
      frames: [...FRAMES, ...FRAMES.map(withCr), ...FRAMES],
    },
  ])('gives the same frames wherever the network cuts: $name', ({ stream, frames }) => {
    for (const [head, rest] of cuts(bytes(stream))) expect(framesOf(head, rest)).toEqual(frames)
  })

  it('gives the same frames byte by byte, each as soon as it is whole', () => {
    for (const frames of [FRAMES, FRAMES.map(withCr)]) {
      const splitter = new FrameSplitter()
      for (const frame of frames) {
        const arrivals = [...bytes(frame)].map((byte) => splitter.push(new Uint8Array([byte])))
        expect(arrivals.at(-1)).toEqual([frame])
        expect(arrivals.flat()).toHaveLength(1)
      }
    }
  })

  it.each(RECORDED)('gives the same frames for any cuts of a recorded stream: %s', (name) => {
    const whole = bytes(recordedStream(name))
    const expected = framesOf(whole)
    expect(expected.join('')).toBe(recordedStream(name))
    fc.assert(
      fc.property(fc.array(fc.nat(whole.byteLength), { maxLength: 40 }), (at) => {
        expect(framesOf(...cutAt(whole, at))).toEqual(expected)
      }),
      { numRuns: 50 },
    )
  })

  it('holds an unfinished frame back, and has its bytes', () => {
    const splitter = new FrameSplitter()
    const rest = (): string => Buffer.from(splitter.rest).toString()
    expect(splitter.push(bytes('data: a\n\ndata: €'.slice(0, -1)))).toEqual(['data: a\n\n'])
    expect(rest()).toBe('data: ')
    expect(splitter.push(bytes('b'))).toEqual([])
    expect(splitter.push(bytes('c\n'))).toEqual([])
    expect(rest()).toBe('data: bc\n')
    expect(splitter.push(bytes('\n'))).toEqual(['data: bc\n\n'])
    expect(rest()).toBe('')
  })

  it('has the bytes of half a character as they came', () => {
    const splitter = new FrameSplitter()
    const half = bytes('data: €').slice(0, -1)
    splitter.push(half)
    expect(splitter.rest).toEqual(half)
  })

  it('keeps nothing of a buffer that is used again', () => {
    const splitter = new FrameSplitter()
    const buffer = new Uint8Array(64)
    const got = [...bytes(STREAM)].flatMap((byte, i) => {
      const at = i % 60
      buffer.fill(0x78)
      buffer[at] = byte
      const frames = splitter.push(buffer.subarray(at, at + 1))
      buffer.fill(0x78)
      return frames
    })
    expect(got).toEqual(FRAMES)
    const piece = bytes('data: a\n\ndata: b')
    const half = new FrameSplitter()
    half.push(piece)
    piece.fill(0x78)
    expect(half.push(bytes('\n\n'))).toEqual(['data: b\n\n'])
  })

  it('does not take a line break inside a JSON text for the end of a frame', () => {
    const frame = 'data: {"a":"\\n\\n"}\n\n'
    expect(framesOf(bytes(frame))).toEqual([frame])
  })
})

describe('the boundary of a frame (L29b)', () => {
  it.each([
    { sent: '', at: true, why: 'nothing was sent' },
    { sent: 'data: x\n\n', at: true, why: 'the frame is whole' },
    { sent: 'data: x\r\n\r\n', at: true, why: 'so is one with CRLF' },
    { sent: ': c\n\n', at: true, why: 'a comment is whole as well' },
    { sent: 'data: x\n\n\n', at: true, why: 'an empty line more is no frame' },
    { sent: 'data: x\r\n\r\n\r\n', at: true, why: 'nor is one with CRLF' },
    { sent: 'data: x\n', at: false, why: 'another line may follow' },
    { sent: 'data: x\r\n', at: false, why: 'the same with CRLF' },
    { sent: 'data: x\r\n\r', at: false, why: 'half of a CRLF' },
    { sent: 'data: x', at: false, why: 'it is half a frame' },
    { sent: 'data: x\n\ndata', at: false, why: 'the next one has begun' },
  ])('is $at when $why', ({ sent, at }) => {
    for (const pieces of cuts(bytes(sent))) {
      const splitter = new FrameSplitter()
      for (const piece of pieces) splitter.push(piece)
      expect(splitter.atBoundary).toBe(at)
    }
  })
})

describe('the work of splitting (L28)', () => {
  it.each([
    { pieces: 2_000, piece: 'x'.repeat(100), why: 'one frame comes in many pieces' },
    { pieces: 1, piece: `data: ${'x'.repeat(34)}\n\n`.repeat(5_000), why: 'one piece has many' },
    {
      pieces: 1,
      piece: `data: ${'x'.repeat(34)}\r\n\r\n`.repeat(5_000),
      why: 'one piece has many with CRLF',
    },
    { pieces: 1_000, piece: 'data: x\n', why: 'a frame has many lines' },
    { pieces: 1, piece: 'data: x\n'.repeat(10_000), why: 'a frame has many lines in one piece' },
    { pieces: 1_000, piece: 'data: x\r\n', why: 'a frame has many lines with CRLF' },
    { pieces: 500, piece: sse(...ANSWER), why: 'it is a stream like any other' },
  ])('is a constant number of looks at each byte where $why', ({ pieces, piece }) => {
    const one = bytes(piece)
    const looked = workOf(() => {
      const splitter = new FrameSplitter()
      for (let i = 0; i < pieces; i++) splitter.push(one)
    })
    expect(looked).toBeLessThan(pieces * one.byteLength * 8)
  })

  it('joins the pieces of a frame once', () => {
    const copied = vi.spyOn(Uint8Array.prototype, 'set')
    try {
      const splitter = new FrameSplitter()
      for (let i = 0; i < 1_000; i++) splitter.push(bytes('x'))
      expect(copied).not.toHaveBeenCalled()
      splitter.push(bytes('\n\n'))
      expect(copied).toHaveBeenCalledTimes(1_001)
    } finally {
      copied.mockRestore()
    }
  })
})

/** Characters and bytes that searches went over while `work` ran. */
function workOf(work: () => void): number {
  let looked = 0
  const count = (length: number, from: number, found: number): void => {
    looked += found === -1 ? Math.abs(length - from) : Math.abs(found - from) + 1
  }
  const inText = vi.spyOn(String.prototype, 'indexOf')
  const backwards = vi.spyOn(Uint8Array.prototype, 'lastIndexOf')
  inText.mockImplementation(function (this: string, search: string, from = 0) {
    const found = TEXT_INDEX_OF.call(this, search, from)
    count(this.length, from, found)
    return found
  })
  backwards.mockImplementation(function (this: Uint8Array, byte: number, from?: number) {
    const start = from ?? this.length - 1
    const found = BYTES_LAST_INDEX_OF.call(this, byte, start)
    count(0, start, found)
    return found
  })
  try {
    work()
  } finally {
    inText.mockRestore()
    backwards.mockRestore()
  }
  expect(looked, 'the searches are counted').toBeGreaterThan(0)
  return looked
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
    { frame: 'data: a\r\ndata: b\r\n\r\n', data: 'a\nb' },
    { frame: 'data: x\n\n', data: 'x' },
  ])('of $frame is $data', ({ frame, data }) => {
    expect(dataOf(frame)).toBe(data)
  })
})

describe('a frame', () => {
  it.each([
    { frame: 'data: x\n\n', carries: true },
    { frame: 'data:x\r\n\r\n', carries: true },
    { frame: 'event: message_stop\ndata: {}\n\n', carries: true },
    { frame: ': ping\ndata: x\n\n', carries: true },
    { frame: ': keep-alive\n\n', carries: false },
    { frame: ': data: x\n\n', carries: false },
    { frame: 'event: ping\n\n', carries: false },
    { frame: 'database: x\n\n', carries: false },
    { frame: '\n\n', carries: false },
  ])('carries data: $carries, for $frame', ({ frame, carries }) => {
    expect(carriesData(frame)).toBe(carries)
  })
})

it('joins no, one and several pieces', () => {
  expect(joined([])).toEqual(bytes(''))
  expect(joined([bytes('ab')])).toEqual(bytes('ab'))
  expect(joined([bytes('ab'), bytes(''), bytes('c')])).toEqual(bytes('abc'))
})
