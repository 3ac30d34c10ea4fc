/** Setup's question for a secret, and how it ends where the operator has had enough. */
import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { EXIT, Failure } from './failure.ts'

export const stopped = (): Failure =>
  new Failure(EXIT.invalid, 'stopped; what was done stays, and setup goes on from there next time')

/**
 * Asks on a terminal without showing what is typed.
 *
 * @param hint  what comes of an empty answer
 * @param input the terminal; others are for tests
 * @throws Failure after Ctrl-C or Ctrl-D, and where the terminal goes away
 */
export async function askHidden(
  name: string,
  hint: string,
  input: NodeJS.ReadableStream = process.stdin,
): Promise<string> {
  process.stderr.write(`${name} (not shown; ${hint}): `)
  const output = new Writable({ write: (_chunk, _encoding, done) => done() })
  const asks = createInterface({ input, output, terminal: true })
  const gone = Promise.withResolvers<never>()
  asks.once('close', () => gone.reject(stopped())) // a question that is open then may stay so
  try {
    const answer = await Promise.race([asks.question(''), gone.promise])
    return answer.trim()
  } catch {
    throw stopped()
  } finally {
    asks.close()
    process.stderr.write('\n')
  }
}
