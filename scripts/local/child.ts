import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'

export interface ChildOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly stdio: StdioOptions
  /** A temporary directory of the process: removed for us where we are gone before it. */
  readonly scratch: string
}

export interface Child {
  readonly process: ChildProcess
  readonly pid: number
  /** Settles when the process has ended; the text says how. */
  readonly ended: Promise<string>
  /** Sends `signal`, then SIGKILL after `graceMs`; resolves when the process has ended. Idempotent. */
  stop(signal: NodeJS.Signals, graceMs: number): Promise<void>
}

/**
 * Waits for its own end of file, which comes when our process is gone, however it went. (`kill -KILL` takes no
 * group in every shell; `kill -s KILL` does.)
 */
const WATCHDOG = 'read -r _; kill "$0"; sleep 1; kill -s KILL -- "-$0"; rm -rf -- "$1"'

/**
 * Starts a process that lives no longer than this one, not even after SIGKILL; nor does what it starts itself
 * outlive it, such as workers of Nginx, which would keep its port.
 *
 * It gets a process group of its own: a Ctrl-C in the terminal then reaches only us, and we stop things in
 * order instead of seeing them die.
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  const child = spawn(options.command, options.args, {
    stdio: options.stdio,
    detached: true,
    ...(options.env ? { env: { ...options.env } } : {}),
  })
  await once(child, 'spawn')
  const { pid } = child
  if (pid === undefined) throw new Error(`${options.command} has no process id`)

  const watchdog = spawn('/bin/sh', ['-c', WATCHDOG, String(pid), options.scratch], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watchdog.on('error', () => {}) // no /bin/sh: the handler on exit below is what remains
  const kill = () => killGroup(pid)
  process.on('exit', kill)

  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      process.off('exit', kill)
      watchdog.kill('SIGKILL')
      kill() // what it leaves behind, had it no time to see to that itself
      resolve(signal ? `ended by ${signal}` : `ended with code ${code}`)
    })
  })
  return {
    process: child,
    pid,
    ended,
    async stop(signal, graceMs) {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill(signal)
      const force = setTimeout(kill, graceMs)
      await ended
      clearTimeout(force)
    },
  }
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL')
  } catch {
    // Gone already.
  }
}
