/** Staging is production under another name: what one binds, the other does. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { unstable_readConfig } from 'wrangler'
import { PROJECT } from '../../scripts/local/bundle.ts'
import { readWorkerConfig } from '../../scripts/local/config.ts'

const FILE = join(PROJECT, 'wrangler.toml')

interface Environment {
  readonly vars: object
  readonly name: string
  readonly routes?: readonly { readonly pattern: string }[]
  readonly ratelimits: readonly { readonly namespace_id: string }[]
  readonly analytics_engine_datasets: readonly { readonly dataset: string }[]
  readonly durable_objects: { readonly bindings: readonly object[] }
}
const environment = (env: string, file = FILE): Environment =>
  unstable_readConfig({ config: file, env })

/** An environment without what is its own: its name, its addresses, where its numbers go, what its vars say. */
function shared(config: Environment): object {
  const { name: _name, routes: _routes, vars, ...rest } = config
  return {
    ...rest,
    targetEnvironment: null,
    vars: Object.keys(vars),
    ratelimits: config.ratelimits.map((limit) => ({ ...limit, namespace_id: null })),
    analytics_engine_datasets: config.analytics_engine_datasets.map((set) => ({
      ...set,
      dataset: null,
    })),
  }
}

it('staging binds and sets all that production does, and nothing else', () => {
  const [production, staging] = [environment(''), environment('staging')]
  expect(shared(staging)).toEqual(shared(production))
  expect(production.durable_objects.bindings.length).toBeGreaterThan(0)
})

it('staging shares no name, counter or dataset with production', () => {
  const [production, staging] = [environment(''), environment('staging')]
  const own = ({ name, ratelimits, analytics_engine_datasets: datasets }: Environment) => [
    name,
    ...ratelimits.map((limit) => limit.namespace_id),
    ...datasets.map(({ dataset }) => dataset),
  ]
  expect(own(production).filter((it) => own(staging).includes(it))).toEqual([])
})

it("a custom domain of production's is not staging's as well", () => {
  const text = readFileSync(FILE, 'utf8')
  const ready = text.replace(/^# (routes = \[\{ pattern = "llm\.example\.com")/m, '$1')
  expect(ready).not.toBe(text)
  const folder = mkdtempSync(join(tmpdir(), 'penstock-environments-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'wrangler.toml')
  writeFileSync(file, ready.replace('worker/index.ts', join(PROJECT, 'worker/index.ts')))
  expect(environment('', file).routes).toMatchObject([{ pattern: 'llm.example.com' }])
  expect(environment('staging', file).routes).toEqual([])
})

it('a local run is of production, whatever the environment says', async () => {
  const kept = process.env['CLOUDFLARE_ENV']
  process.env['CLOUDFLARE_ENV'] = 'no-such-environment'
  onTestFinished(() => {
    if (kept === undefined) delete process.env['CLOUDFLARE_ENV']
    else process.env['CLOUDFLARE_ENV'] = kept
  })
  expect((await readWorkerConfig()).objects.map(({ binding }) => binding)).toContain('POOL')
})
