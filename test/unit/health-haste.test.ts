/** How long looks wait, and what they make of an answer that is late. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { Chart } from '../../durable-objects/health/chart.ts'
import { glanceMs, readingMs } from '../../durable-objects/health/haste.ts'
import { look, type ProbeOptions } from '../../durable-objects/health/probe.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

const SITED: Target = {
  instance: 'a',
  base: 'https://site.example/i/a',
  site: 'lab',
  secrets: [],
}

/** A look at an instance behind Nginx that takes the connection and never answers. */
async function lookAtHung(options: Partial<ProbeOptions>, nginx: 'answers' | 'hangs') {
  const calls: string[] = []
  let deadline = 0
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    deadline = ms
    return new AbortController().signal
  })
  const fetch = (url: string): Promise<Response> => {
    calls.push(`${new URL(url).pathname} within ${deadline}`)
    const headers = { 'x-penstock-origin': 'lab' }
    if (new URL(url).pathname === '/' && nginx === 'answers')
      return Promise.resolve(new Response('', { status: 404, headers }))
    return Promise.reject(new DOMException('too late', 'TimeoutError'))
  }
  const seen = await look(
    SITED,
    { servedAs: 'm', timeoutMs: 2_000, purpose: 'reading', lastResort: false, ...options },
    { fetch: fetch as typeof globalThis.fetch, secretOf: () => undefined },
  )
  return { seen, calls }
}

describe('a glance', () => {
  it('lasts for a quarter of a second, or four times what readings usually take', () => {
    expect(glanceMs({ usualMs: 20, timeoutMs: 2_000 })).toBe(250)
    expect(glanceMs({ usualMs: 300, timeoutMs: 2_000 })).toBe(1_200)
    expect(glanceMs({ usualMs: 900, timeoutMs: 2_000 })).toBe(2_000)
    expect(glanceMs({ usualMs: 0, timeoutMs: 100 })).toBe(100)
  })

  it('goes by the slowest reading of late, and forgets it when others are quicker', () => {
    const chart = new Chart(0)
    for (const ms of [20, 1_900, 20]) chart.took(ms)
    expect(chart.usualMs).toBe(950)
    for (let i = 0; i < 10; i++) chart.took(20)
    expect(chart.usualMs).toBe(20)
  })

  it('that comes too early says so and nothing else, and asks nobody whose fault it is', async () => {
    const { seen, calls } = await lookAtHung({ purpose: 'glance', withinMs: 250 }, 'hangs')
    expect(seen).toMatchObject({ late: true, way: null, gauges: null })
    expect(calls).toEqual(['/i/a/metrics within 250'])
  })
})

describe('a reading', () => {
  it('is short in a crowd alone, and never when it decides', () => {
    const quick = { usualMs: 20, timeoutMs: 2_000 }
    expect(readingMs(quick, false, false)).toBe(2_000)
    expect(readingMs(quick, true, false)).toBe(500)
    expect(readingMs(quick, true, true)).toBe(2_000)
    expect(readingMs({ usualMs: 300, timeoutMs: 2_000 }, true, false)).toBe(1_200)
    expect(readingMs({ usualMs: 0, timeoutMs: 400 }, true, false)).toBe(400)
  })

  it.each([
    { withinMs: 500, nginxMs: 2_500 },
    { withinMs: 2_000, nginxMs: 1_000 },
  ])('within $withinMs ms leaves Nginx $nginxMs ms to clear the way (L14)', async (row) => {
    const { withinMs, nginxMs } = row
    const metrics = `/i/a/metrics within ${withinMs}`
    const blamed = await lookAtHung({ withinMs }, 'answers')
    expect(blamed.seen).toMatchObject({ reading: { kind: 'unwell' }, late: true, way: 'open' })
    expect(blamed.calls).toEqual([metrics, `/ within ${nginxMs}`])
    const excused = await lookAtHung({ withinMs }, 'hangs')
    expect(excused.seen).toMatchObject({ reading: { kind: 'unreached' }, late: true, way: 'fault' })
  })
})
