/** Reading what the simulator says, for the tests of it. */
import { request } from 'node:http'
import type { Sim } from '../../scripts/sim/server.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

/** One request over a connection of its own, headers as they stand on the wire. */
export function call(
  sim: Sim,
  method: string,
  path: string,
  body = '',
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const sent = body === '' ? {} : { 'content-type': 'application/json' }
  return new Promise((resolve, reject) => {
    const outgoing = request(
      sim.url + path,
      { method, agent: false, headers: { ...sent, connection: 'close', ...headers } },
      (incoming) => {
        const parts: Buffer[] = []
        incoming.on('data', (part: Buffer) => parts.push(part))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const raw = incoming.rawHeaders
          const pairs = raw.flatMap((name, i) => (i % 2 === 0 ? [[name, raw[i + 1] ?? '']] : []))
          resolve({
            status: incoming.statusCode ?? 0,
            headers: Object.fromEntries(pairs) as Record<string, string>,
            text: Buffer.concat(parts).toString(),
          })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

export interface Frame {
  readonly event: string | null
  readonly data: string
}

/** The frames of a whole SSE body, comments left out. */
export const framesOf = (text: string): Frame[] =>
  text
    .split('\n\n')
    .filter((block) => block.trim() !== '' && !block.startsWith(':'))
    .map((block) => {
      const lines = block.split('\n')
      const event = lines.find((line) => line.startsWith('event: '))
      const data = lines.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6))
      return { event: event?.slice(7) ?? null, data: data.join('\n') }
    })

/** What stands at a path inside parsed JSON; undefined where the path leads nowhere. */
export const at = (value: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce<unknown>(
    (inner, key) => (inner as Record<string | number, unknown> | null | undefined)?.[key],
    value,
  )

/** The list at a path; empty where there is none. */
export const list = (value: unknown, ...path: readonly (string | number)[]): unknown[] => {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

/** The text at a path; empty where there is none. */
export const text = (value: unknown, ...path: readonly (string | number)[]): string => {
  const found = at(value, ...path)
  return typeof found === 'string' ? found : ''
}

/** Parsed data of all frames but `[DONE]`. */
export const eventsOf = (body: string): unknown[] =>
  framesOf(body)
    .filter(({ data }) => data !== '[DONE]')
    .map(({ data }) => JSON.parse(data) as unknown)

export const post = (sim: Sim, path: string, body: unknown): Promise<Answer> =>
  call(sim, 'POST', path, JSON.stringify(body))

/** Waits until something holds, for as long as a test's own timeout allows. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2))
}
