import { createServer } from 'node:net'

/** Below what systems hand out by themselves (32768 and up on Linux, 49152 elsewhere), so that nobody is given one by chance. */
const FIRST = 12_000
const LAST = 32_000

/**
 * A port that is free, and stays so: for programs that cannot be asked which port they got, and for those that
 * stop listening for a while.
 */
export async function freePort(): Promise<number> {
  const port = FIRST + Math.floor(Math.random() * (LAST - FIRST))
  return (await isFree(port)) ? port : freePort()
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
