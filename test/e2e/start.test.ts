import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LocalRun } from '../../scripts/local/data-dir.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { freePort } from '../support/ports.ts'
import { isRunning, spawnStart, type StartProcess } from '../support/start-process.ts'

let data: string
let runs: StartProcess[]
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'penstock-start-'))
  runs = []
})
afterEach(async () => {
  for (const run of runs) {
    if (!isRunning(run.pid)) continue
    run.signal('SIGKILL')
    await run.ended
  }
  rmSync(data, { recursive: true, force: true })
})

const start = (args: readonly string[], env?: Readonly<Record<string, string>>) => {
  const run = spawnStart(data, args, env)
  runs.push(run)
  return run
}

const atPort = (port: number) => ['--port', String(port)]

const gone = async (pids: readonly number[]) => {
  while (pids.some(isRunning)) await new Promise((resolve) => setTimeout(resolve, 20))
}

async function streamed({ url, apiKey }: LocalRun, model: string): Promise<string> {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      stream: true,
      max_tokens: 5,
      messages: [{ role: 'user', content: 'hello' }],
    }),
  })
  return `${answer.status} ${await answer.text()}`
}

describe('npm start', () => {
  it('brings up a whole demo, and Ctrl-C stops all of it', async () => {
    const run = start(atPort(await freePort()))
    const local = await run.ready()
    expect(await streamed(local, 'qwen')).toMatch(/^200 data: [^]*data: \[DONE\]\n\n$/)
    expect(local.instances.map(({ id }) => id)).toContain('qwen-2')
    for (const { control } of local.instances) {
      expect((await fetch(`${control}/state`)).status).toBe(200)
    }
    expect(run.output()).toContain(`curl -N ${local.url}/v1/chat/completions`)
    expect(run.output()).toContain(local.apiKey)

    const children = run.children()
    expect(children.length).toBeGreaterThan(0)
    run.signal('SIGINT')
    run.signal('SIGINT') // npm passes on what the terminal has sent already
    expect(await run.ended).toBe(0)
    expect(children.filter(isRunning)).toEqual([])
    expect(readdirSync(data).sort()).toEqual(['secrets.json', 'state', 'worker.log'])
  })

  it('keeps the key from one run to the next, with the storage', async () => {
    const args = atPort(await freePort())
    const keys: string[] = []
    for (let i = 0; i < 2; i++) {
      const run = start(args)
      keys.push((await run.ready()).apiKey)
      run.signal('SIGTERM')
      expect(await run.ended).toBe(0)
    }
    expect(keys[1]).toBe(keys[0])
  })

  it('leaves no process behind when it is killed', async () => {
    const run = start(atPort(await freePort()))
    await run.ready()
    const children = run.children()
    expect(children.length).toBeGreaterThan(0)
    run.signal('SIGKILL')
    await gone(children)
    expect(await run.ended).toBeNull()
  })

  it('stops at once when it is interrupted while it comes up', async () => {
    const run = start(atPort(await freePort()))
    while (!run.output().includes('simulates')) await new Promise((r) => setTimeout(r, 5))
    run.signal('SIGINT')
    expect(await run.ended).toBe(0)
    await gone(run.children())
    expect(readdirSync(data)).not.toContain('lock')
  })

  it.each([
    [['--host', '192.0.2.1'], {}, '192.0.2.1 is not an address of this machine'],
    [['--data', 'package.json'], {}, 'package.json is not a directory'],
    [[], { PENSTOCK_ADMIN_TOKEN: 'a b' }, 'PENSTOCK_ADMIN_TOKEN is no token'],
  ])('tells a mistake in one line, before anything is up: %j %j', async (args, env, says) => {
    const run = start(args, env)
    expect(await run.ended).toBe(1)
    expect(run.output()).toContain(says)
    expect(run.output().trim().split('\n')).toHaveLength(1)
  })

  it('refuses a flag it does not know', async () => {
    const run = start(['--flet', 'x'])
    expect(await run.ended).toBe(1)
    expect(run.output()).toContain("Unknown option '--flet'")
  })
})

describe('npm start --fleet', () => {
  let sim: Sim
  beforeEach(async () => {
    sim = await startSim({ model: 'served', apiKey: 'vllm-key' })
  })
  afterEach(() => sim.close())

  const fleetFile = (text: string): string => {
    const file = join(data, 'fleet.yaml')
    writeFileSync(file, text)
    return file
  }
  const oneInstance = () =>
    fleetFile(`pools:
  main:
    served_as: served
    instances: [{ id: one, url: "${sim.url}", key_env: VLLM_KEY }]
models:
  public: { arms: [{ pool: main }] }
`)

  it("puts the router alone in front of the operator's own instance", async () => {
    const env = { VLLM_KEY: 'vllm-key' }
    const run = start(['--fleet', oneInstance(), ...atPort(await freePort())], env)
    const local = await run.ready()
    expect(local.instances).toEqual([{ id: 'one', pool: 'main', url: sim.url }])
    expect(await streamed(local, 'public')).toMatch(/^200 data: /)
    expect(run.output()).not.toContain('simulate')
  })

  it('names a port that is taken and takes the next one', async () => {
    const squatter = createServer()
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve))
    const { port } = squatter.address() as AddressInfo
    const env = { VLLM_KEY: 'vllm-key' }
    const run = start(['--fleet', oneInstance(), ...atPort(port)], env)
    const local = await run.ready()
    const gets = Number(new URL(local.url).port)
    expect(run.output()).toContain(`port ${port} is taken: the router gets ${gets}`)
    expect(gets).toBeGreaterThan(port)
    await new Promise((resolve) => squatter.close(resolve))
  })

  it('refuses a second run in the same directory, and leaves the first alone', async () => {
    const env = { VLLM_KEY: 'vllm-key' }
    const args = ['--fleet', oneInstance(), ...atPort(await freePort())]
    const first = start(args, env)
    const local = await first.ready()
    const second = start(args, env)
    expect(await second.ended).toBe(1)
    expect(second.output()).toContain(`in use by another local run (process ${first.pid})`)
    expect(readdirSync(data)).toContain('local.json')
    expect(await streamed(local, 'public')).toMatch(/^200 /)
  })

  it('says where each mistake of the file is', async () => {
    const file = fleetFile('pools:\n  main: { served_as: x, instances: [] }\nmodles: {}\n')
    const run = start(['--fleet', file])
    expect(await run.ended).toBe(1)
    expect(run.output()).toContain(`${file}:2:`)
    expect(run.output()).toContain(`${file}:3:1`)
    expect(run.output()).toContain('models') // the nearest key there is
  })

  it('names each secret that has no value', async () => {
    const run = start(['--fleet', oneInstance()])
    expect(await run.ended).toBe(1)
    expect(run.output()).toContain('VLLM_KEY')
  })

  it('says that a file does not exist', async () => {
    const run = start(['--fleet', join(data, 'none.yaml')])
    expect(await run.ended).toBe(1)
    expect(run.output()).toContain('none.yaml: there is no such file')
  })
})
