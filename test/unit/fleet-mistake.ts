import { expect } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'

/** A small file without a mistake; each test breaks one line of it. */
export const GOOD = `sites:
  sha:
    origin: https://gpu-a.example.com
    access: { id: ACCESS_ID, secret: ACCESS_SECRET }
    node_key: NODE_KEY
    region: apac
defaults:
  policy: least_inflight
  health: { every: 5s, timeout: 2s }
  timeouts: { first_byte: 90s, idle: 60s, total: 30m }
  limits: { body: 16MiB }
pools:
  chat:
    served_as: Chat-7B
    instances:
      - { id: chat-1, site: sha, port: 8001 }
      - { id: chat-2, site: sha, host: 10.0.0.12, port: 8001 }
  direct:
    served_as: Direct-7B
    instances:
      - { id: direct-1, url: "http://127.0.0.1:9001", key_env: VLLM_KEY }
models:
  chat:
    aliases: [gpt-4o-mini]
    path: /chat-7b
    arms:
      - { pool: chat, weight: 95 }
      - { pool: direct, weight: 5, name: canary }
  other: { path: /other, arms: [{ pool: direct }] }
`

export const problemsOf = (text: string) => {
  const checked = checkFleet(text)
  return checked.ok ? [] : checked.problems
}

/**
 * Breaks one line of a file.
 *
 * @param file one without a mistake, {@link GOOD} unless said
 * @param row what is written => what it becomes, `‸` where the mistake is | its path | part of the message
 * @returns what is found, and the one problem that should be
 */
export function mistakeIn(row: string, file = GOOD) {
  const [change = '', path, message] = row.split(' | ')
  const [from = '', to = ''] = change.split(' => ').map((part) => part.replaceAll('\\n', '\n'))
  if (!file.includes(from)) throw new Error(`the small file has no ${from}`)
  const marked = file.replace(from, to)
  const above = marked.slice(0, marked.indexOf('‸')).split('\n')
  return {
    found: problemsOf(marked.replace('‸', '')),
    expected: {
      path,
      message: expect.stringContaining(message ?? '') as string,
      line: above.length,
      column: (above.at(-1) ?? '').length + 1,
    },
  }
}
