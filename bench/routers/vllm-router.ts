import { spawnSync } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startChild } from '../../scripts/local/child.ts'
import { firstFreePort } from '../../scripts/local/ports.ts'
import type { Target } from './stream.ts'

/** The policies compared, and what is set beside them. */
export const VLLM_ROUTERS = [
  { label: 'vllm-router cache_aware', flags: ['--policy', 'cache_aware'] },
  {
    label: 'vllm-router cache_aware, balancing',
    // Out of the box it looks at load only from a difference of 64 requests on.
    flags: ['--policy', 'cache_aware', '--balance-abs-threshold', '3'],
  },
  { label: 'vllm-router power_of_two', flags: ['--policy', 'power_of_two'] },
  { label: 'vllm-router round_robin', flags: ['--policy', 'round_robin'] },
] as const

/** As often as Penstock looks: out of the box it would be once a minute. */
const HEALTH = ['--health-check-interval-secs', '5', '--worker-startup-check-interval', '1']
const READY_MS = 30_000

/** The command: what `PENSTOCK_BENCH_VLLM_ROUTER` names, or `vllm-router` on the path; null where it is not installed. */
export function findVllmRouter(): string | null {
  const command = process.env['PENSTOCK_BENCH_VLLM_ROUTER'] ?? 'vllm-router'
  return spawnSync(command, ['--help'], { stdio: 'ignore' }).status === 0 ? command : null
}

export async function startVllmRouter(
  { label, flags }: { readonly label: string; readonly flags: readonly string[] },
  ports: readonly number[],
  { command, promised }: { readonly command: string; readonly promised: Set<number> },
  stack: AsyncDisposableStack,
): Promise<Target> {
  const freePort = async () => {
    const port = await firstFreePort({ host: '127.0.0.1', from: 31_000, promised })
    promised.add(port) // others are started side by side
    return port
  }
  const port = await freePort()
  const metrics = await freePort()
  const child = await startChild({
    command,
    args: [
      '--host',
      '127.0.0.1',
      '--port',
      `${port}`,
      '--prometheus-port',
      `${metrics}`,
      '--log-level',
      'error',
      ...HEALTH,
      ...flags,
      '--worker-urls',
      ...ports.map((one) => `http://127.0.0.1:${one}`),
    ],
    env: process.env,
    stdio: ['ignore', 'ignore', 'ignore'],
    scratch: await mkdtemp(join(tmpdir(), 'penstock-bench-')),
  })
  stack.defer(() => child.stop('SIGTERM', 2_000))
  const end = Date.now() + READY_MS
  while (!(await isReady(port))) {
    if (Date.now() > end) throw new Error(`${label} is not ready`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { label, port, headers: {} }
}

const isReady = (port: number): Promise<boolean> =>
  fetch(`http://127.0.0.1:${port}/v1/models`).then(
    async (response) => {
      await response.text()
      return response.ok
    },
    () => false,
  )
