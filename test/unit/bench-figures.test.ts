import { describe, expect, it } from 'vitest'
import {
  excess,
  median,
  medianOf,
  percentile,
  ratio,
  verdict,
  type Budget,
} from '../../bench/figures.ts'
import { Reply, WrongReply } from '../../bench/reply.ts'
import { chatBody, END_MARK, FRAMES, framesOf, orderIn } from '../../bench/workload.ts'

describe('the figures', () => {
  it.each([
    { values: [3, 1, 2], middle: 2 },
    { values: [4, 1, 2, 3], middle: 2.5 },
    { values: [7], middle: 7 },
    { values: [10, 9], middle: 9.5 },
  ])('have $middle in the middle of $values', ({ values, middle }) => {
    expect(median(values)).toBe(middle)
  })

  it('of nothing are no number', () => {
    expect(median([])).toBeNaN()
    expect(percentile([], 0.5)).toBeNaN()
  })

  it.each([
    { share: 0, value: 1 },
    { share: 0.5, value: 50 },
    { share: 0.501, value: 51 },
    { share: 0.99, value: 99 },
    { share: 1, value: 100 },
  ])('of 1 to 100 have $value at a share of $share', ({ share, value }) => {
    const values = Array.from({ length: 100 }, (_, i) => 100 - i)
    expect(percentile(values, share)).toBe(value)
  })

  it('compare what was measured in the same round', () => {
    expect(medianOf([2, 4, 30], [1, 2, 3], ratio)).toBe(2)
    expect(medianOf([2, 4, 30], [1, 2, 3], excess)).toBe(2)
    // Both half as fast from the second round on: no difference between the rows.
    expect(medianOf([10, 20, 20], [10, 20, 20], ratio)).toBe(1)
  })

  it('lack a round that only one of the two has', () => {
    expect(medianOf([2], [], ratio)).toBeNaN()
  })
})

describe('a verdict', () => {
  const most = { what: '', unit: 'ms', must: 4, goal: 2, limit: 'most' } as const
  const least = { what: '', unit: '', must: 0.35, goal: 0.5, limit: 'least' } as const
  it.each<{ budget: Budget; says: string }>([
    { budget: { ...most, measured: 1 }, says: 'must and goal met' },
    { budget: { ...most, measured: 2 }, says: 'must and goal met' },
    { budget: { ...most, measured: 3 }, says: 'must met; goal missed by 1.00 ms (50 %)' },
    {
      budget: { ...most, measured: 5 },
      says: 'must missed by 1.00 ms (25 %); goal missed by 3.00 ms (150 %)',
    },
    { budget: { ...least, measured: 0.6 }, says: 'must and goal met' },
    { budget: { ...least, measured: 0.4 }, says: 'must met; goal missed by 0.10 (20 %)' },
    {
      budget: { ...least, measured: 0.3 },
      says: 'must missed by 0.05 (14 %); goal missed by 0.20 (40 %)',
    },
    { budget: { ...most, measured: null }, says: 'not measured' },
  ])('on $budget.measured is "$says"', ({ budget, says }) => {
    expect(verdict(budget)).toBe(says)
  })

  it.each([most, least])('on a division by nothing is no success ($limit)', (budget) => {
    expect(verdict({ ...budget, measured: Number.NaN })).toMatch(/^must missed/)
  })
})

describe('an order', () => {
  it('travels as the prompt', () => {
    const order = { frames: 20, everyMs: 5 }
    expect(orderIn(chatBody('x', order))).toEqual({ ...order, model: 'x' })
  })
})

const ORDER = { frames: 6, everyMs: 0 }
const TEXT = FRAMES.role + FRAMES.content.repeat(3) + FRAMES.finish + FRAMES.usage(ORDER) + END_MARK
const HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Proof: a\r\n\r\n'

/** An HTTP answer of `body` in chunks of so many bytes. */
function answerOf(body: string, { chunk = body.length, head = HEAD } = {}): Buffer {
  let chunked = ''
  for (let at = 0; at < body.length; at += chunk) {
    const piece = body.slice(at, at + chunk)
    chunked += `${piece.length.toString(16)}\r\n${piece}\r\n`
  }
  return Buffer.from(`${head + chunked}0\r\n\r\n`)
}

/** Reads an answer in pieces of so many bytes; the clock is the number of the piece. */
function read(answer: Buffer, piece = answer.length, proof: string | null = null): Reply {
  const reply = new Reply(proof)
  for (let at = 0, n = 1; at < answer.length; at += piece, n++) {
    const whole = reply.push(answer.subarray(at, at + piece), n)
    expect(whole, 'whole at its last byte, and not before').toBe(at + piece >= answer.length)
  }
  return reply
}

describe('a reply', () => {
  it.each([1, 2, 3, 7, 50, 185, 400, TEXT.length])(
    'in chunks of %d bytes reads the same wherever the network cuts it',
    (chunk) => {
      const answer = answerOf(TEXT, { chunk })
      for (const piece of [1, 2, 3, 5, 20, 187, 900, answer.length]) {
        const reply = read(answer, piece, 'x-proof: a')
        expect(() => reply.check(framesOf(ORDER))).not.toThrow()
        expect(reply.frames).toBe(framesOf(ORDER))
      }
    },
  )

  it('has its first content when the read came that brought it, and not with the role', () => {
    const before = HEAD.length + answerOf(FRAMES.role).length
    const reply = read(answerOf(TEXT), 20)
    expect(reply.contentAt).toBeGreaterThan(before / 20 - 2)
    expect(reply.contentAt).toBeLessThan(answerOf(TEXT).length / 20 / 2 + 2)
    expect(read(answerOf(FRAMES.role + END_MARK)).contentAt).toBeNull()
  })

  it.each([
    { text: TEXT.replace(FRAMES.content, ''), says: /6 frames instead of 7/, why: 'a frame short' },
    { text: TEXT + FRAMES.content, says: /ended with/, why: 'longer than its end' },
    { text: TEXT.replace(END_MARK, ''), says: /ended with/, why: 'without its end mark' },
    { text: FRAMES.role.repeat(6) + END_MARK, says: /without content/, why: 'without content' },
  ])('that is $why is a wrong one', ({ text, says }) => {
    const reply = read(answerOf(text))
    expect(() => reply.check(framesOf(ORDER))).toThrow(WrongReply)
    expect(() => reply.check(framesOf(ORDER))).toThrow(says)
  })

  it.each([
    { head: HEAD.replace('200 OK', '503 No'), says: /503/, why: 'an error' },
    {
      head: HEAD.replace('Transfer-Encoding: chunked', 'Content-Length: 9'),
      says: /chunked/,
      why: 'one of a known length',
    },
    {
      head: HEAD.replace('X-Proof: a', 'X-Other: a'),
      says: /with "x-proof: a"/,
      why: 'from somebody else',
    },
  ])('that is $why is a wrong one at its head', ({ head, says }) => {
    const answer = answerOf(TEXT, { head })
    expect(() => new Reply('x-proof: a').push(answer, 1)).toThrow(says)
  })

  it('with bytes after its end, or a chunk without a size, is a wrong one', () => {
    const more = Buffer.concat([answerOf(TEXT), Buffer.from('x')])
    expect(() => new Reply(null).push(more, 1)).toThrow(/after the end/)
    expect(() => new Reply(null).push(Buffer.from(`${HEAD}zz\r\n`), 1)).toThrow(/no chunk size/)
  })
})
