/** What `penstock setup` needs of the world around it; tests bring their own. */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { Call } from './admin-api.ts'

export interface Ran {
  readonly exit: number
  readonly out: string
  readonly err: string
}

export interface RunOptions {
  /** Goes to its standard input: secrets never stand on a command line. */
  readonly input?: string
  /** The operator sees what it says, and may answer it. */
  readonly shown?: boolean
}

/** Runs an external command; its exit status is no exception. */
export type Run = (command: Command, options?: RunOptions) => Promise<Ran>
export type Command = readonly [program: string, ...args: string[]]

export interface Surroundings {
  readonly run: Run
  readonly say: (text: string) => void
  /** @throws Failure where the answer is not yes, or nobody is there to give one */
  readonly confirm: (question: string) => Promise<void>
  /** The same, where no is an answer as well. */
  readonly wants: (question: string) => Promise<boolean>
  /**
   * Asks for a value that nobody else shall see; empty: none.
   * @param hint what comes of an empty one
   */
  readonly askSecret: (name: string, hint: string) => Promise<string>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Cryptographic randomness. */
  readonly bytes: (count: number) => Uint8Array
  /** A call of the operators' API, as `callAdmin`. */
  readonly admin: <T>(token: string, path: readonly string[], call?: Call) => Promise<T>
  /** Whether the router answers at its URL. */
  readonly answers: () => Promise<boolean>
  readonly sleep: (ms: number) => Promise<void>
}

export const runCommand: Run = async ([program, ...args], { input, shown = false } = {}) => {
  const child = spawn(program, args, {
    stdio: [
      input === undefined ? (shown ? 'inherit' : 'ignore') : 'pipe',
      shown ? 'inherit' : 'pipe',
      shown ? 'inherit' : 'pipe',
    ],
  })
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(NOT_FOUND))
    child.once('close', (code) => resolve(code ?? NOT_FOUND))
  })
  child.stdin?.on('error', () => undefined) // told by its exit status
  child.stdin?.end(input)
  const [out, err] = await Promise.all([said(child.stdout), said(child.stderr)])
  return { exit: await ended, out, err }
}

/** All of a stream; nothing of one that goes to the terminal. */
const said = async (stream: Readable | null): Promise<string> => (stream ? text(stream) : '')

/** As a shell says that there is no such program. */
const NOT_FOUND = 127

/** A command as one would type it. */
export const typed = (command: readonly string[]): string => command.map(quoted).join(' ')

const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `"${word.replaceAll(/["\\$`]/g, '\\$&')}"`

/** @param env `''` for production: said, since wrangler warns where it is not */
export const wrangler = (env: string, ...args: readonly string[]): Command => [
  'npx',
  'wrangler',
  ...args,
  '--env',
  env,
]
