import { describe, expect, it } from 'vitest'
import { RECEIPT_HEADERS, receiptComment, receiptHeaders } from '../../worker/receipt.ts'

const FULL = {
  requestId: 'req_1',
  model: 'qwen',
  arm: 'stable',
  pool: 'qwen-14b',
  instance: 'qwen-1',
  reason: 'least_inflight; qwen-2: timed-out',
  attempts: 2,
  fleet: 7,
  removed: ['priority', 'x-vllm-priority'],
  'dry-run': 'rate_limit_exceeded',
  shown: true,
}

describe('the receipt of an answer', () => {
  it('says in its headers what the request went through', () => {
    expect(Object.fromEntries(receiptHeaders(FULL))).toEqual({
      'x-request-id': 'req_1',
      'x-penstock-model': 'qwen',
      'x-penstock-arm': 'stable',
      'x-penstock-pool': 'qwen-14b',
      'x-penstock-instance': 'qwen-1',
      'x-penstock-reason': 'least_inflight; qwen-2: timed-out',
      'x-penstock-attempts': '2',
      'x-penstock-fleet': '7',
      'x-penstock-removed': 'priority, x-vllm-priority',
      'x-penstock-dry-run': 'rate_limit_exceeded',
    })
    const names = receiptHeaders(FULL).map(([name]) => name)
    expect(RECEIPT_HEADERS, 'a browser may read them all').toEqual(names)
  })

  it('says nothing of what is not known, and nothing but the id where the fleet says so', () => {
    const id = [['x-request-id', 'req_1']]
    expect(receiptHeaders({ requestId: 'req_1', shown: true, reason: '' })).toEqual(id)
    expect(receiptHeaders({ ...FULL, shown: false })).toEqual(id)
  })

  it('is one comment line where the headers were out already (L24)', () => {
    const comment = receiptComment(FULL)
    expect(comment).toMatch(/^: receipt [^\n\r]+\n$/)
    expect(comment).toContain('x-penstock-instance="qwen-1"')
    expect(comment).toContain('x-penstock-reason="least_inflight; qwen-2: timed-out"')
    expect(receiptComment({ ...FULL, shown: false })).toBe('')
  })

  it('cannot be made to end a line, or a frame, by what a tenant named', () => {
    const removed = ['a\n\ndata: x\r\n\r\n', '名前'.repeat(1_000)]
    const comment = receiptComment({ ...FULL, removed })
    expect(comment.indexOf('\n')).toBe(comment.length - 1)
    expect(comment).not.toContain('\r')
    const [, value] = receiptHeaders({ ...FULL, removed }).find(([name]) =>
      name.endsWith('removed'),
    )!
    expect(value).toMatch(/^[\x20-\x7e]{1,1000}$/)
  })
})
