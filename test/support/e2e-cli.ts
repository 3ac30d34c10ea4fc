/** The command line, as an operator starts it. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CLI = fileURLToPath(new URL('../../scripts/penstock.ts', import.meta.url))

/**
 * Runs `penstock` with `--json` and reads what it says.
 * @throws with its own words where it fails
 */
export const penstock = <T>(
  { url, adminToken }: { readonly url: string; readonly adminToken: string },
  ...args: readonly string[]
): Promise<T> =>
  new Promise((resolve, reject) => {
    const env = { ...process.env, PENSTOCK_URL: url, PENSTOCK_ADMIN_TOKEN: adminToken }
    execFile(process.execPath, [CLI, ...args, '--json'], { env }, (error, stdout, stderr) => {
      if (error) reject(new Error(`penstock ${args.join(' ')}: ${stdout}${stderr}`))
      else resolve(JSON.parse(stdout) as T)
    })
  })
