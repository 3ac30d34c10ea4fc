import { forked, nextFrom } from '../forked.ts'

/** What a module of this folder answers to a message, in a process of its own. */
export type Answer<T> =
  | { readonly ok: true; readonly result: T }
  | { readonly ok: false; readonly message: string }

/** Asks the process; one question at a time. Rejects where it failed, or ended. */
export type Asking<Q> = <T>(question: Q) => Promise<T>

/** Runs a module of this folder in a process of its own, and has it answer questions. */
export function asked<Q extends object>(module: string, stack: AsyncDisposableStack): Asking<Q> {
  const child = forked(new URL(module, import.meta.url), stack)
  return async <T>(question: Q): Promise<T> => {
    child.send(question)
    const answer = await nextFrom<Answer<T>>(child)
    if (!answer.ok) throw new Error(`${module}: ${answer.message}`)
    return answer.result
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
