import { join } from 'node:path'
import { PROJECT } from './bundle.ts'

/** The parts of `wrangler.toml` that a local run repeats, so that local and deployed are the same. */
export interface WorkerConfig {
  /** Path of the module whose default export is the Worker. */
  readonly main: string
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  readonly objects: readonly { readonly binding: string; readonly className: string }[]
  readonly vars: Readonly<Record<string, unknown>>
  /** Name of the version metadata binding; null where there is none. */
  readonly versionBinding: string | null
}

/** What is read of wrangler's own configuration type, which its package leaves unresolved. */
interface Wrangler {
  readonly main: string | undefined
  readonly compatibility_date: string | undefined
  readonly compatibility_flags: readonly string[]
  readonly migrations: readonly { readonly new_sqlite_classes?: readonly string[] }[]
  readonly durable_objects: {
    readonly bindings: readonly { readonly name: string; readonly class_name: string }[]
  }
  readonly vars: Readonly<Record<string, unknown>>
  readonly version_metadata?: { readonly binding: string }
}

/**
 * Reads the top level of `wrangler.toml`, which is production, with wrangler's own reader.
 *
 * @throws where the file asks for something that a local run does not provide: a local run that
 *         silently lacks a binding would fail far from here
 */
export async function readWorkerConfig(
  path: string = join(PROJECT, 'wrangler.toml'),
): Promise<WorkerConfig> {
  // Loaded here since it takes most of a second: a mistake in the command line is said before that.
  const { unstable_readConfig } = await import('wrangler')
  const config: Wrangler = unstable_readConfig({ config: path, env: '' }) // not what CLOUDFLARE_ENV says
  if (!config.main || !config.compatibility_date) {
    throw new Error(`${path} needs main and compatibility_date`)
  }
  const sqlite = new Set(config.migrations.flatMap((step) => step.new_sqlite_classes ?? []))
  const objects = config.durable_objects.bindings.map(({ name, class_name: className }) => {
    if (!sqlite.has(className)) throw new Error(`${path}: no new_sqlite_classes for ${className}`)
    return { binding: name, className }
  })
  return {
    main: config.main,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    objects,
    vars: config.vars,
    versionBinding: config.version_metadata?.binding ?? null,
  }
}
