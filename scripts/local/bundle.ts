import { fileURLToPath } from 'node:url'
import { build, type BuildOptions } from 'esbuild'

/** The project's root, whatever the directory a command was started in. */
export const PROJECT = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Bundles a Worker into one ES module, with the options that `wrangler deploy` gives esbuild, so that
 * what runs locally is what is deployed.
 *
 * @param entry   path of the module whose default export is the Worker
 * @param options in place of these, or beside them
 * @returns       the module's source, with its source map inline
 * @throws        esbuild's own error, which names file, line and column
 */
export async function bundleWorker(
  entry: string,
  options: Pick<BuildOptions, 'absWorkingDir' | 'minify' | 'plugins' | 'sourcemap'> = {},
): Promise<string> {
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: PROJECT,
    bundle: true,
    format: 'esm',
    target: 'es2024',
    supported: { 'import-source': true, using: true },
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:*', 'node:*'],
    define: { 'process.env.NODE_ENV': '"production"' },
    loader: { '.html': 'text', '.txt': 'text', '.sql': 'text' },
    keepNames: true,
    sourcemap: 'inline',
    logLevel: 'silent',
    ...options,
    write: false,
  })
  const [file] = result.outputFiles
  if (!file) throw new Error(`esbuild wrote nothing for ${entry}`)
  return file.text
}
