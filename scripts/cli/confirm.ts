import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import { EXIT, Failure, Interrupted } from './failure.ts'

/**
 * Asks before something that cannot be undone.
 * @throws Failure where the answer is not yes, or nobody is there to give one; Interrupted after Ctrl-C
 */
export async function confirm(question: string): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new Failure(EXIT.invalid, 'nobody is there to ask; say --yes to go on without a question')
  }
  const asks = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await asks.question(`${question} [y/N] `).catch(() => {
    process.stderr.write('\n')
    throw new Interrupted(EXIT.invalid, 'nothing was done')
  })
  asks.close()
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure(EXIT.invalid, 'nothing was done')
}
