/** The child of `startPenstock`: runs the commands it is sent, one after the other, each from a fresh entry module. */
import process from 'node:process'

let last = Promise.resolve()
let number = 0
process.on('message', (args: readonly string[]) => {
  last = last.then(() => run(args))
})

async function run(args: readonly string[]): Promise<void> {
  const said = { out: '', err: '' }
  process.stdout.write = (text: string | Uint8Array) => {
    said.out += String(text)
    return true
  }
  process.stderr.write = (text: string | Uint8Array) => {
    said.err += String(text)
    return true
  }
  process.argv.splice(2, Infinity, ...args)
  process.exitCode = 0
  number += 1
  try {
    await import(`../../scripts/penstock.ts?${number}`)
  } catch (cause) {
    process.exitCode = 1
    said.err += String(cause)
  }
  process.send?.({ exit: process.exitCode, ...said })
}
