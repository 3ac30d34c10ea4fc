/** Workers of releases as bundles, to be run beside this tree's. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { Plugin } from 'esbuild'
import { bundleWorker } from '../../scripts/local/bundle.ts'

/** The release before this tree: what this one must be able to run beside, and go back to. */
export const BEFORE = '0.1.0'

const ENTRY = fileURLToPath(new URL('../support/entry.js', import.meta.url))

/** The file that keeps a release's bundle. */
export const fileOf = (version: string): string =>
  fileURLToPath(new URL(`${version}.js.gz`, import.meta.url))

/** The bundle of a release, as it was deployed. */
export const released = async (version: string): Promise<string> =>
  gunzipSync(await readFile(fileOf(version))).toString()

/** A bundle with the route by which tests befall its objects, see `test/support/entry.js`. */
export const befallen = (bundle: string): Promise<string> =>
  withFiles({ 'release.mjs': bundle }, (folder) => {
    const resolved = { path: join(folder, 'release.mjs') }
    const plugin: Plugin = {
      name: 'in place of the Worker',
      setup: (build) => build.onResolve({ filter: /\/worker\/index\.ts$/ }, () => resolved),
    }
    return bundleWorker(ENTRY, { sourcemap: false, plugins: [plugin] })
  })

/** This tree's, with the same route. */
export const here = (): Promise<string> => bundleWorker(ENTRY, { sourcemap: false })

/** A bundle whose fleet object is another's: objects change over to a new release one by one. */
export const withFleetOf = (bundle: string, other: string): Promise<string> => {
  const entry = `
    export { default, Directory, Operators, Pool, Tenant } from './most.mjs'
    export { Fleet } from './fleet.mjs'`
  return withFiles({ 'most.mjs': bundle, 'fleet.mjs': other, 'entry.mjs': entry }, (folder) =>
    bundleWorker(join(folder, 'entry.mjs'), { sourcemap: false }),
  )
}

/** Lets something be done with files that are gone after it. */
async function withFiles<T>(
  files: Readonly<Record<string, string>>,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-release-'))
  try {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}
