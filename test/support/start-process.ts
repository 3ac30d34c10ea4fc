import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PROJECT } from '../../scripts/local/bundle.ts'
import type { LocalRun } from '../../scripts/local/data-dir.ts'

/** `npm start` as a process of its own, in a process group of its own as in a terminal. */
export interface StartProcess {
  readonly pid: number
  /** All it has written so far. */
  output(): string
  /** Resolves when `local.json` is there; rejects with the output when the process ends first. */
  ready(): Promise<LocalRun>
  /** The processes that it has started. */
  children(): readonly number[]
  /** Sends a signal to the whole group, as Ctrl-C does. */
  signal(signal: NodeJS.Signals): void
  /** Exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>
}

export function spawnStart(
  data: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): StartProcess {
  const child = spawn(process.execPath, ['scripts/local/start.ts', '--data', data, ...args], {
    cwd: PROJECT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const { pid } = child
  if (pid === undefined) throw new Error('start.ts did not start')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += String(chunk)))
  }
  const ended = exitCode(child)
  return {
    pid,
    ended,
    output: () => output,
    async ready() {
      const file = join(data, 'local.json')
      while (!existsSync(file)) {
        if (child.exitCode !== null) throw new Error(`start.ts ended:\n${output}`)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      return JSON.parse(readFileSync(file, 'utf8')) as LocalRun
    },
    children: () =>
      execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' })
        .split('\n')
        .map((line) => line.trim().split(/\s+/).map(Number))
        .flatMap(([id = 0, parent]) => (parent === pid ? id : [])),
    signal: (signal) => process.kill(-pid, signal),
  }
}

/** Once the output is whole as well. */
const exitCode = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.once('close', resolve))

/** Whether a process is still there; one that has ended but was not waited for is not. */
export function isRunning(pid: number): boolean {
  try {
    const state = execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
    return !state.trim().startsWith('Z')
  } catch {
    return false // ps found none
  }
}
