import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { compileFleet, namedSecrets } from '../../durable-objects/fleet/compile.ts'
import { EXIT, Failure } from '../cli/failure.ts'
import { readFleet } from '../cli/files.ts'
import type { RunningFleet } from './demo.ts'
import { findSecrets } from './secrets.ts'

/**
 * The operator's own fleet: nothing is started, everything is checked.
 *
 * @param file as the user wrote it, since messages name it
 * @param cwd  where `.dev.vars` is looked for
 * @throws {Failure} for a file that cannot be read or has mistakes (which are printed as `penstock check`
 *         prints them), or a secret without a value
 */
export function readOwnFleet(
  file: string,
  env: Readonly<Record<string, string | undefined>>,
  cwd: string,
): RunningFleet {
  const { text, fleet } = readFleet(file, false)
  const devVars = join(cwd, '.dev.vars')
  const { found, missing } = findSecrets(
    namedSecrets(fleet),
    env,
    existsSync(devVars) ? readFileSync(devVars, 'utf8') : null,
  )
  if (missing.length > 0) {
    throw new Failure(
      EXIT.invalid,
      `${file} names secrets that have no value: ${missing.join(', ')}\nSet them in the environment, or as NAME=value lines in ${devVars}`,
    )
  }
  const instances = compileFleet(fleet, 1, {}).pools.flatMap((pool) =>
    pool.instances.map(({ instance, base }) => ({ id: instance, pool: pool.pool, url: base })),
  )
  return { fleet, yaml: text, secrets: found, instances, ended: new Promise(() => {}) }
}
