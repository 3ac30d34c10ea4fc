import type { WorkerConfig } from './config.ts'

export interface ServeOptions {
  readonly config: WorkerConfig
  /** File name of the bundled module, beside the configuration. */
  readonly module: string
  /** That of all services but the first, where theirs is another release. */
  readonly entryModule?: string
  /** Where the Worker listens: `127.0.0.1:0` for a port of the system's choice. */
  readonly address: string
  /** Names of bindings whose values workerd takes from its environment, so that no secret is written to disk. */
  readonly secrets: readonly string[]
  /** Further text bindings. */
  readonly texts: Readonly<Record<string, string>>
  /** Directory of the objects' storage. On disk in any case: in memory workerd has no SQL. */
  readonly storage: string
  /**
   * How often the Worker stands there, each with memory and a socket of its own, all with the objects of
   * the first: as a deployed Worker runs in many places at once. Default 1.
   */
  readonly services?: number
}

/** A string literal of Cap'n Proto's text format: like C's, with bytes as `\xNN` and UTF-8 as it is. */
export const quote = (text: string): string =>
  `"${text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, asBytes)}"`

const asBytes = (control: string): string =>
  [...new TextEncoder().encode(control)]
    .map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`)
    .join('')

const binding = (name: string, kind: string, value: string) =>
  `(name = ${quote(name)}, ${kind} = ${quote(value)})`

/** What a service, and its socket, is called; counted from 0. */
export const serviceName = (index: number): string => (index === 0 ? 'main' : `main-${index + 1}`)

/**
 * The configuration file for `workerd serve`: one Worker with its objects on one socket, or several
 * services of it on a socket each.
 *
 * One process and nothing in front of the Worker: Miniflare adds a Worker of its own before and after
 * ours, which costs requests per second and hides a client that leaves.
 */
export function renderServeConfig(options: ServeOptions): string {
  const { config, storage, services = 1 } = options
  const indices = Array.from({ length: services }, (_, i) => i)
  const bindings = [
    ...Object.entries(config.vars).map(([name, value]) =>
      typeof value === 'string'
        ? binding(name, 'text', value)
        : binding(name, 'json', JSON.stringify(value)),
    ),
    ...Object.entries(options.texts).map(([name, value]) => binding(name, 'text', value)),
    ...options.secrets.map((name) => binding(name, 'fromEnvironment', name)),
  ]
  if (config.versionBinding) {
    bindings.push(
      binding(config.versionBinding, 'json', '{"id":"local","tag":"local","timestamp":""}'),
    )
  }
  const own = config.objects.map((o) => binding(o.binding, 'durableObjectNamespace', o.className))
  const ofTheFirst = config.objects.map(
    (o) =>
      `(name = ${quote(o.binding)}, durableObjectNamespace = (className = ${quote(o.className)}, serviceName = "main"))`,
  )
  // The key is what the storage's files are named by: it stays as it is, or kept storage is lost.
  const namespaces = config.objects.map(
    ({ className }) =>
      `(className = ${quote(className)}, uniqueKey = ${quote(`penstock-${className}`)}, enableSql = true)`,
  )
  const worker = (index: number): string => `
const worker${index + 1} :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed ${quote((index > 0 && options.entryModule) || options.module)})],
  compatibilityDate = ${quote(config.compatibilityDate)},
  compatibilityFlags = [${config.compatibilityFlags.map(quote).join(', ')}],
  bindings = [
    ${[...(index === 0 ? own : ofTheFirst), ...bindings].join(',\n    ')}
  ],${
    index === 0
      ? `
  durableObjectNamespaces = [
    ${namespaces.join(',\n    ')}
  ],
  durableObjectStorage = (localDisk = "state"),`
      : ''
  }
  globalOutbound = "network"
);
`
  const workers = indices.map((i) => `(name = "${serviceName(i)}", worker = .worker${i + 1})`)
  const sockets = indices.map(
    (i) =>
      `(name = "${serviceName(i)}", address = ${quote(options.address)}, http = (), service = "${serviceName(i)}")`,
  )
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    ${workers.join(',\n    ')},
    (name = "network", network = (
      allow = ["public", "private", "local"],
      tlsOptions = (trustBrowserCas = true)
    )),
    (name = "state", disk = (path = ${quote(storage)}, writable = true))
  ],
  sockets = [
    ${sockets.join(',\n    ')}
  ]
);
${indices.map(worker).join('')}`
}
