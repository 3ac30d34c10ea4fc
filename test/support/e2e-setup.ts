/** Built once for all e2e files: bundling, and wrangler's own reader, take seconds of each file otherwise. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { bundleWorker } from '../../scripts/local/bundle.ts'
import { readWorkerConfig } from '../../scripts/local/config.ts'

/** Where the processes that run the files find what was built. */
const BUILT = 'PENSTOCK_E2E_BUILT'

interface Built {
  readonly code: string
  readonly config: Awaited<ReturnType<typeof readWorkerConfig>>
}

async function build(): Promise<Built> {
  const entry = fileURLToPath(new URL('entry.js', import.meta.url))
  const [code, config] = await Promise.all([bundleWorker(entry), readWorkerConfig()])
  // The source map is three quarters of it, and workerd would read it at every start.
  return { code: code.replace(/\n\/\/# sourceMappingURL=.*\s*$/, ''), config }
}

let built: Promise<Built> | undefined

/** The Worker for e2e tests: built once for all files where vitest was told to, else once per file's process. */
export const builtWorker = (): Promise<Built> => (built ??= findBuilt())

async function findBuilt(): Promise<Built> {
  const file = process.env[BUILT]
  return file === undefined ? build() : (JSON.parse(await readFile(file, 'utf8')) as Built)
}

/** Vitest's global setup; what it returns is called at the end. */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-e2e-'))
  const file = join(folder, 'built.json')
  await writeFile(file, JSON.stringify(await build()))
  process.env[BUILT] = file
  return () => rm(folder, { recursive: true })
}
