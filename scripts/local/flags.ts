import { parseArgs } from 'node:util'

export interface Flags {
  /** The operator's own fleet file; null runs the demo. */
  readonly fleet: string | null
  readonly host: string
  readonly port: number
  readonly data: string
  readonly help: boolean
}

export const DEFAULT_PORT = 8787
export const DEFAULT_DATA = '.penstock'

export const USAGE = `Usage: npm start [-- options]

Without --fleet: a demo with simulated vLLM instances. With it: the router alone, in front of your own.

  --fleet FILE   your fleet.yaml
  --port N       where the router listens (default ${DEFAULT_PORT}; if taken, the next free one)
  --host ADDR    address it listens on (default 127.0.0.1)
  --data DIR     where state is kept from run to run (default ${DEFAULT_DATA})
  --help         this text`

/** Reads the command line; `problem` is one sentence for the user. */
export function parseFlags(argv: readonly string[]): Flags | { readonly problem: string } {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        fleet: { type: 'string' },
        host: { type: 'string', default: '127.0.0.1' },
        port: { type: 'string', default: String(DEFAULT_PORT) },
        data: { type: 'string', default: DEFAULT_DATA },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    const { fleet, host, data, help } = values
    const port = /^\d{1,5}$/.test(values.port) ? Number(values.port) : 0
    if (port < 1 || port > 65_535) {
      return { problem: `--port must be a number from 1 to 65535, not "${values.port}"` }
    }
    if (fleet === '') return { problem: '--fleet needs the name of a file' }
    if (data === '') return { problem: '--data needs the name of a directory' }
    return { fleet: fleet ?? null, host, port, data, help }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}
