/** The child of `hostPenstock`: runs the commands it is sent, one after the other, each from a fresh entry module. */
import process from 'node:process'

interface Command {
  readonly args: readonly string[]
  /** Its whole environment. */
  readonly env: Readonly<Record<string, string>>
}

let last = Promise.resolve()
let number = 0
process.on('message', (command: Command) => {
  last = last.then(() => run(command))
})

async function run({ args, env }: Command): Promise<void> {
  const said = { out: '', err: '' }
  process.stdout.write = (text: string | Uint8Array) => {
    said.out += String(text)
    return true
  }
  process.stderr.write = (text: string | Uint8Array) => {
    said.err += String(text)
    return true
  }
  for (const name of Object.keys(process.env)) Reflect.deleteProperty(process.env, name)
  Object.assign(process.env, env)
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
