import { expect, it } from 'vitest'
import {
  csvLine,
  money,
  usageCsvHead,
  usageCsvLines,
} from '../../durable-objects/tenant/usage-csv.ts'

const USAGE = {
  tenant: 'acme',
  period: '2026-11',
  key: 'k1',
  model: 'org/m,"x"',
  requests: 3,
  errors: 1,
  limited: 2,
  promptTokens: 10,
  cachedTokens: 4,
  completionTokens: 5,
  estimatedTokens: 6,
  cost: 0.1 + 0.2,
}

it('cells with commas, quotes or line breaks are quoted, as RFC 4180 says', () => {
  expect(csvLine(['a', 'b,c', 'say "hi"', 'two\nlines', '', 7])).toBe(
    'a,"b,c","say ""hi""","two\nlines",,7\r\n',
  )
})

it('each value of a row stands under its name', () => {
  const names = usageCsvHead().trimEnd().split(',')
  const cells = usageCsvLines([{ ...USAGE, model: 'm' }], 'EUR')
    .trimEnd()
    .split(',')
  expect(Object.fromEntries(names.map((name, i) => [name, cells[i]]))).toEqual({
    tenant: 'acme',
    period: '2026-11',
    key: 'k1',
    model: 'm',
    requests: '3',
    errors: '1',
    limited: '2',
    prompt_tokens: '10',
    cached_tokens: '4',
    completion_tokens: '5',
    estimated_tokens: '6',
    cost: '0.3',
    currency: 'EUR',
  })
})

it('a model whose name needs it is quoted', () => {
  expect(usageCsvLines([USAGE], null)).toBe('acme,2026-11,k1,"org/m,""x""",3,1,2,10,4,5,6,0.3,\r\n')
})

it.each([
  [0.0000015, '0.0000015'],
  [1e-7, '0.0000001'],
  [0, '0'],
  [1200, '1200'],
  [10.5, '10.5'],
])('a cost of %s is written %s, never with an exponent', (cost, written) => {
  const line = usageCsvLines([{ ...USAGE, cost }], null).trimEnd()
  expect(line.split(',').at(-2)).toBe(written)
})

it('money has no noise of floating point', () => {
  expect(money(0.1 + 0.2)).toBe(0.3)
})
