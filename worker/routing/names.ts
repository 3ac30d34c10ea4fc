import {
  byCloseness,
  isGlob,
  matchesModel,
  MODEL_NAME,
} from '../../durable-objects/fleet/model-glob.ts'
import type { ModelRoute, Snapshot } from '../../durable-objects/fleet/snapshot.ts'

/** What a URL says of where a request wants to go. */
export interface Destination {
  /** Without a port, in lower case. */
  readonly host: string
  /** What stood before the endpoint's path; '' when nothing did. */
  readonly prefix: string
}

/** What a tenant's word for a model means. */
export interface Meant {
  readonly model: ModelRoute
  /** The word after its last `@`, which names one of the model's arms, or should; null: there is none. */
  readonly arm: string | null
}

/**
 * The model whose path a URL begins with; without a path, the one whose host it names. Undefined: the
 * URL leaves it open, or its path is nobody's.
 */
export function modelAt(snapshot: Snapshot, { host, prefix }: Destination): ModelRoute | undefined {
  const { paths, hosts } = namesOf(snapshot)
  // With a dot at its end it is the same name, fully qualified (RFC 3986, 3.2.2).
  return prefix === '' ? hosts.get(host.replace(/\.$/, '')) : paths.get(prefix)
}

/** The model a tenant's name means: its own, one it is an alias of, or the closest of the globs that fit. */
export function modelNamed(snapshot: Snapshot, name: string): ModelRoute | undefined {
  const { exact, globs } = namesOf(snapshot)
  const known = exact.get(name)
  // A glob stands for what a model may be called alone: answers, and headers, repeat it.
  if (known || !MODEL_NAME.test(name)) return known
  return globs.find(([glob]) => matchesModel(glob, name))?.[1]
}

/** @example meantBy(snapshot, 'qwen@canary') // { model: …, arm: 'canary' } */
export function meantBy(snapshot: Snapshot, asked: string): Meant | undefined {
  const at = asked.lastIndexOf('@')
  const [name, arm] = at === -1 ? [asked, null] : [asked.slice(0, at), asked.slice(at + 1)]
  const model = modelNamed(snapshot, name)
  return model && { model, arm }
}

interface Names {
  readonly exact: ReadonlyMap<string, ModelRoute>
  /** The closest first. */
  readonly globs: readonly (readonly [glob: string, model: ModelRoute])[]
  readonly hosts: ReadonlyMap<string, ModelRoute>
  readonly paths: ReadonlyMap<string, ModelRoute>
}

/** Worked out once for as long as a snapshot lives. */
const known = new WeakMap<Snapshot, Names>()

function namesOf(snapshot: Snapshot): Names {
  let names = known.get(snapshot)
  if (!names) {
    names = compile(Object.values(snapshot.models))
    known.set(snapshot, names)
  }
  return names
}

function compile(models: readonly ModelRoute[]): Names {
  const by = (keysOf: (model: ModelRoute) => readonly string[]) =>
    models.flatMap((model) => keysOf(model).map((key) => [key, model] as const))
  const aliases = by((model) => model.aliases)
  return {
    // A later entry takes an earlier one's place: a model's own name is nobody else's.
    exact: new Map([...aliases.filter(([alias]) => !isGlob(alias)), ...by(({ name }) => [name])]),
    globs: aliases.filter(([alias]) => isGlob(alias)).toSorted(([a], [b]) => byCloseness(a, b)),
    hosts: new Map(by(({ hosts = [] }) => hosts)),
    paths: new Map(by(({ path }) => (path === null ? [] : [path]))),
  }
}
