/** Built once for all e2e files: bundling, and wrangler's own reader, take seconds of each file otherwise. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { bundleWorker } from '../../scripts/local/bundle.ts'
import { readWorkerConfig } from '../../scripts/local/config.ts'

/** Where the processes that run the files find what was built. */
export const BUILT = 'PENSTOCK_E2E_BUILT'

export interface Built {
  readonly code: string
  readonly config: Awaited<ReturnType<typeof readWorkerConfig>>
}

export async function build(): Promise<Built> {
  const entry = fileURLToPath(new URL('entry.js', import.meta.url))
  const [code, config] = await Promise.all([bundleWorker(entry), readWorkerConfig()])
  return { code, config }
}

/** Vitest's global setup; what it returns is called at the end. */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-e2e-'))
  const file = join(folder, 'built.json')
  await writeFile(file, JSON.stringify(await build()))
  process.env[BUILT] = file
  return () => rm(folder, { recursive: true })
}
