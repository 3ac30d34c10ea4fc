import { describe, expect, it } from 'vitest'
import { tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import { heldTokens } from '../../durable-objects/scheduling/held.ts'

describe('tokens that an instance probably has of a prompt', () => {
  it('are those of its whole blocks', () => {
    const held = heldTokens(
      new Map([
        ['a', 8],
        ['b', 8],
        ['c', 2],
      ]),
      10_000,
    )
    expect(Object.fromEntries(held)).toEqual({
      a: tokensThrough(8),
      b: tokensThrough(8),
      c: tokensThrough(2),
    })
  })

  it('are some more where nobody else holds as much: it has had this very conversation', () => {
    const held = heldTokens(
      new Map([
        ['a', 9],
        ['b', 8],
      ]),
      10_000,
    )
    expect(held.get('a')).toBeGreaterThan(tokensThrough(9))
    expect(held.get('a')).toBeLessThan(tokensThrough(10))
    expect(held.get('b')).toBe(tokensThrough(8))
  })

  it('are never more than the prompt has, whatever the estimate went by', () => {
    expect(
      heldTokens(
        new Map([
          ['a', 9],
          ['b', 8],
        ]),
        300,
      ),
    ).toEqual(
      new Map([
        ['a', 300],
        ['b', 300],
      ]),
    )
  })
})
