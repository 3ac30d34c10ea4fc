import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { pagesOf } from '../../scripts/cli/pages.ts'
import { REQUEST_ID } from '../support/e2e-cli.ts'

interface Page {
  readonly items: readonly number[]
  readonly next: string | null
}

/** Gives 2,500 items, a page at a time. */
const asked: string[] = []
const router = createServer((request, answer) => {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://router')
  asked.push(`${pathname}?${searchParams.toString()}`)
  const from = Number(searchParams.get('after') ?? 0)
  const to = Math.min(2_500, from + Number(searchParams.get('limit')))
  const items = Array.from({ length: to - from }, (_, i) => from + i)
  answer.setHeader('content-type', 'application/json')
  answer.setHeader('x-request-id', REQUEST_ID)
  answer.end(JSON.stringify({ items, next: to < 2_500 ? String(to) : null }))
})
beforeAll(async () => {
  vi.stubEnv('PENSTOCK_ADMIN_TOKEN', 'op')
  router.listen(0, '127.0.0.1')
  await once(router, 'listening')
})
afterAll(() => {
  router.closeAllConnections()
  router.close()
})
const url = () => `http://127.0.0.1:${(router.address() as AddressInfo).port}`

it('pages are read to the last, by the same query, each item once', async () => {
  const items: number[] = []
  for await (const page of pagesOf<Page>(url(), ['tenants'], { prefix: 'a b' })) {
    items.push(...page.items)
  }
  expect(items).toEqual(Array.from({ length: 2_500 }, (_, i) => i))
  expect(asked).toEqual([
    '/admin/tenants?limit=1000&prefix=a+b',
    '/admin/tenants?limit=1000&prefix=a+b&after=1000',
    '/admin/tenants?limit=1000&prefix=a+b&after=2000',
  ])
})

it('no page is asked for that nobody wants', async () => {
  asked.length = 0
  for await (const page of pagesOf<Page>(url(), ['tenants'], { limit: 10 })) {
    if (page.items.length === 10) break
  }
  expect(asked).toEqual(['/admin/tenants?limit=10'])
})
