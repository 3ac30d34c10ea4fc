import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import type { DirectoryEntry, DirectoryRpc } from '../../durable-objects/tenant/contract.ts'

const directory = (name: string): DirectoryRpc => env.DIRECTORY.getByName(name)

const entry = (id: string, named: Partial<DirectoryEntry> = {}): DirectoryEntry => ({
  id,
  created: 1,
  plan: null,
  suspended: false,
  ...named,
})

/** All pages, one after the other. */
async function pages(name: string, limit: number, prefix?: string): Promise<string[][]> {
  const found: string[][] = []
  let after: string | null = null
  do {
    const page = await directory(name).list({ after, limit, ...(prefix && { prefix }) })
    found.push(page.tenants.map(({ id }) => id))
    after = page.next
  } while (after !== null)
  return found
}

describe('the directory', () => {
  it('lists 2,500 tenants page by page, each once, in the order of their ids', async () => {
    const ids = Array.from({ length: 2_500 }, (_, i) => `t-${String(i).padStart(4, '0')}`)
    await directory('paged').put(ids.toReversed().map((id) => entry(id)))
    const found = await pages('paged', 1_000)
    expect(found.map((page) => page.length)).toEqual([1_000, 1_000, 500])
    expect(found.flat()).toEqual(ids)
  })

  it('gives no more than 1,000 at once, and ends where the last page is full', async () => {
    const ids = Array.from({ length: 1_001 }, (_, i) => `t-${String(i).padStart(4, '0')}`)
    await directory('capped').put(ids.map((id) => entry(id)))
    expect((await pages('capped', 1_000_000)).map((page) => page.length)).toEqual([1_000, 1])
    await directory('capped').remove('t-0000')
    expect((await pages('capped', 1_000)).map((page) => page.length)).toEqual([1_000])
    expect(await directory('empty').list({ after: null, limit: 10 })).toEqual({
      tenants: [],
      next: null,
    })
  })

  it('lists those alone whose ids begin with a prefix', async () => {
    await directory('prefix').put(['ab', 'ac', 'ac-1', 'aczz', 'ad', 'c'].map((id) => entry(id)))
    expect(await pages('prefix', 2, 'ac')).toEqual([['ac', 'ac-1'], ['aczz']])
    expect(await pages('prefix', 10, 'x')).toEqual([[]])
  })

  it('keeps one line for each tenant: the last that was put', async () => {
    await directory('line').put([entry('acme'), entry('other')])
    const changed = entry('acme', { plan: 'pro', suspended: true })
    await directory('line').put([changed])
    const { tenants } = await directory('line').list({ after: null, limit: 10 })
    expect(tenants).toEqual([changed, entry('other')])
  })
})
