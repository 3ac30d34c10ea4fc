/** The Python client as a process of its own: asks go in as JSON lines, what was said comes out. */
import { execFile, spawn } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { SCHEMA, TOOLS, type Ask, type Door, type Said } from './client.ts'
import { AUDIO, type OpenAISurface } from './openai.ts'

/** Why there is no `python3` with `openai` here; null where there is. */
export async function pythonMissing(): Promise<string | null> {
  try {
    await promisify(execFile)('python3', ['-c', 'import openai'])
    return null
  } catch (error) {
    return String(error).trim().split('\n').at(-1) ?? 'python3 failed'
  }
}

export interface Python {
  say(surface: OpenAISurface, door: Door, ask: Ask): Promise<Said>
  stop(): void
}

/** Starts `client.py`; what it writes to its standard error goes to ours. */
export function startPython(): Python {
  const script = join(import.meta.dirname, 'client.py')
  // The package builds its models when they are first used, which is no work for several threads at once.
  const env = { ...process.env, DEFER_PYDANTIC_BUILD: 'false' }
  const child = spawn('python3', [script], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting = new Map<number, PromiseWithResolvers<Said>>()
  let last = 0
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, said } = JSON.parse(line) as { id: number; said: Said }
    waiting.get(id)?.resolve(said)
    waiting.delete(id)
  })
  child.once('close', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`client.py ended: ${code}`))
  })
  return {
    say(surface, door, ask) {
      const answer = Promise.withResolvers<Said>()
      const id = ++last
      waiting.set(id, answer)
      const asked = { ...ask, audioBytes: AUDIO.length }
      const line = { id, surface, door, ask: asked, tools: TOOLS, schema: SCHEMA }
      child.stdin.write(`${JSON.stringify(line)}\n`)
      return answer.promise
    },
    stop() {
      child.kill()
    },
  }
}
