import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** What a module of this folder answers to a message, in a process of its own. */
export type Answer<T> =
  | { readonly ok: true; readonly result: T }
  | { readonly ok: false; readonly message: string }

/** Asks the process; one question at a time. Rejects where it failed, or ended. */
export type Asking<Q> = <T>(question: Q) => Promise<T>

/** Runs a module of this folder in a process of its own. It ends when we do: its IPC channel closes then. */
export function forked<Q extends object>(module: string, stack: AsyncDisposableStack): Asking<Q> {
  const child = fork(fileURLToPath(new URL(module, import.meta.url)))
  stack.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill()
    await ended
  })
  return async <T>(question: Q): Promise<T> => {
    child.send(question)
    const answer = await nextFrom<Answer<T>>(child)
    if (!answer.ok) throw new Error(`${module}: ${answer.message}`)
    return answer.result
  }
}

/** The next thing that a child says; rejects when it ends instead. */
async function nextFrom<T>(child: ChildProcess): Promise<T> {
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

/** Answers what the process that forked us asks, and ends with it. */
export function answering(answer: (question: never) => Promise<unknown>): void {
  process.on('message', (question) => {
    answer(question as never).then(
      (result) => process.send?.({ ok: true, result } satisfies Answer<unknown>),
      (error: Error) =>
        process.send?.({ ok: false, message: error.message } satisfies Answer<unknown>),
    )
  })
  process.on('disconnect', () => process.exit()) // whoever forked us is gone
}
