import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { isRunning } from '../support/start-process.ts'

const CHILD = new URL('../../scripts/local/child.ts', import.meta.url).href

/** Starts a shell that has started something itself, as Nginx has its workers, and ends as told. */
const program = (ending: string): string => `
  import { startChild } from ${JSON.stringify(CHILD)}
  const args = ['-c', 'sleep 600 & echo $!; wait']
  const child = await startChild({ command: '/bin/sh', args, stdio: ['ignore', 'pipe', 'ignore'], scratch: '/nonexistent' })
  child.process.stdout.once('data', (pid) => {
    process.stdout.write(pid, async () => { ${ending} })
  })
`

it.each([
  ['we exit', 'process.exit(1)'],
  ['we are killed', "process.kill(process.pid, 'SIGKILL')"],
  ['we fail', "throw new Error('a fault')"],
  ['it is killed itself', "process.kill(child.pid, 'SIGKILL'); await child.ended"],
])('nothing that a child has started outlives us, even where %s', async (_, ending) => {
  const args = ['--input-type=module', '-e', program(ending)]
  const { stdout } = await promisify(execFile)(process.execPath, args).catch(
    (failed: { stdout: string }) => failed,
  )
  const grandchild = Number(stdout)
  expect(grandchild).toBeGreaterThan(1)
  while (isRunning(grandchild)) await new Promise((resolve) => setTimeout(resolve, 20))
})
