import { describe, expect, it } from 'vitest'
import { quote, renderServeConfig } from '../../scripts/local/capnp.ts'
import { readWorkerConfig } from '../../scripts/local/config.ts'

const config = await readWorkerConfig()
const render = (services?: number) =>
  renderServeConfig({
    ...(services !== undefined && { services }),
    config,
    module: 'worker.mjs',
    address: '127.0.0.1:0',
    secrets: ['ADMIN_TOKEN'],
    texts: {},
    storage: '/d',
  })

describe('renderServeConfig', () => {
  it('repeats the compatibility settings and objects of wrangler.toml', () => {
    const text = render()
    expect(text).toContain('"request_signal_passthrough"') // without it a lost tenant goes unseen (L03)
    for (const [name, className] of Object.entries({
      POOL: 'Pool',
      TENANT: 'Tenant',
      FLEET: 'Fleet',
      DIRECTORY: 'Directory',
      OPERATORS: 'Operators',
    })) {
      expect(text).toContain(`(name = "${name}", durableObjectNamespace = "${className}")`)
      expect(text).toContain(`className = "${className}", uniqueKey = "penstock-${className}"`)
    }
  })

  it('names secrets and never holds their values', () => {
    expect(render()).toContain('(name = "ADMIN_TOKEN", fromEnvironment = "ADMIN_TOKEN")')
  })

  it('gives further services of the Worker the objects of the first', () => {
    const text = render(3)
    expect(text.match(/durableObjectNamespaces = /g)).toHaveLength(1) // or each would have its own
    for (const { binding, className } of config.objects) {
      const shared = `(name = "${binding}", durableObjectNamespace = (className = "${className}", serviceName = "main"))`
      expect(text.split(shared)).toHaveLength(3)
    }
    expect([...text.matchAll(/http = \(\), service = "([^"]+)"/g)].map(([, name]) => name)).toEqual(
      ['main', 'main-2', 'main-3'],
    )
  })

  it('keeps storage on disk, since in memory there is no SQL', () => {
    expect(render()).toContain('disk = (path = "/d", writable = true)')
    expect(render()).toContain('durableObjectStorage = (localDisk = "state")')
  })
})

describe('quote', () => {
  it.each([
    ['plain', '"plain"'],
    ['a"b\\c', String.raw`"a\"b\\c"`],
    ['line\nbreak', String.raw`"line\x0abreak"`],
    ['größe', '"größe"'],
  ])('writes %j', (text, literal) => {
    expect(quote(text)).toBe(literal)
  })
})
