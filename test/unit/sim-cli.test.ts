import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

const start = (...flags: string[]) =>
  spawn(path('../../node_modules/.bin/node'), [path('../../scripts/sim/cli.ts'), ...flags])

describe('the simulator as a command', () => {
  it('says in one line where it listens, serves, and ends cleanly on SIGTERM', async () => {
    const child = start('--model', 'q', '--port', '0', '--control-port', '0', '--instant')
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
    const [, url = '', control = ''] = /^q on (\S+), control on (\S+)$/.exec(line) ?? []
    expect((await fetch(`${url}/health`)).status).toBe(200)
    expect(await (await fetch(`${control}/state`)).json()).toMatchObject({ model: 'q' })
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  it('names the port that is taken', async () => {
    const first = start('--model', 'q', '--port', '0')
    const [line] = (await once(createInterface(first.stdout), 'line')) as [string]
    const port = /:(\d+)$/.exec(line)?.[1] ?? ''
    const second = start('--model', 'q', '--port', port)
    const [complaint] = (await once(createInterface(second.stderr), 'line')) as [string]
    expect(complaint).toContain(`address already in use 127.0.0.1:${port}`)
    expect(await once(second, 'exit')).toEqual([1, null])
    first.kill('SIGTERM')
    await once(first, 'exit')
  })
})
