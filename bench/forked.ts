import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Answer, Job, Results } from './load.ts'
import { WrongReply } from './reply.ts'

/** Runs a module in a process of its own. It ends when we do: its IPC channel closes then. */
export function forked(module: URL, stack: AsyncDisposableStack): ChildProcess {
  const child = fork(fileURLToPath(module))
  stack.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill()
    await ended
  })
  return child
}

/** The next thing that a child says; rejects when it ends instead. */
export async function nextFrom<T>(child: ChildProcess): Promise<T> {
  const over = new AbortController()
  const { signal } = over
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message as T),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`a process of the benchmark ended with ${String(code)}`)
      }),
    ])
  } finally {
    over.abort()
  }
}

/** @returns the port of the upstream */
export const startUpstream = (stack: AsyncDisposableStack): Promise<number> =>
  nextFrom<number>(forked(new URL('upstream.ts', import.meta.url), stack))

/** Has the load generator do one job; rejects where an answer was wrong. */
export type Load = <J extends Job>(job: J) => Promise<Results[J['kind']]>

export function startLoad(stack: AsyncDisposableStack): Load {
  const child = forked(new URL('load.ts', import.meta.url), stack)
  return async <J extends Job>(job: J) => {
    child.send(job)
    const answer = await nextFrom<Answer>(child)
    if (!answer.ok) throw new WrongReply(answer.message)
    return answer.result as Results[J['kind']]
  }
}
