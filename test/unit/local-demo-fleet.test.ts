import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { namedSecrets } from '../../durable-objects/fleet/compile.ts'
import { demoInstances, localFleet } from '../../scripts/local/demo-fleet.ts'

const EXAMPLE = readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8')

const fleetOf = (text: string) => {
  const checked = checkFleet(text)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}

const PORTS: Record<string, number> = Object.fromEntries(
  demoInstances(fleetOf(EXAMPLE)).map(({ id }, index) => [id, 20_001 + index]),
)

describe('demoInstances', () => {
  it('gives a port that two hosts share to the first of them only', () => {
    const ports = demoInstances(fleetOf(EXAMPLE)).map(({ id, port }) => [id, port])
    expect(ports).toContainEqual(['qwen-1', 8001])
    expect(ports).toContainEqual(['qwen-2', null])
  })
})

describe('localFleet', () => {
  const origin = 'http://127.0.0.1:8080'

  it('puts every instance on this machine, behind the local Nginx', () => {
    const fleet = fleetOf(localFleet(EXAMPLE, PORTS, origin))
    expect(Object.values(fleet.sites).map((site) => site.origin)).toEqual([origin])
    const instances = Object.values(fleet.pools).flatMap((pool) => pool.instances)
    const places = instances.map((i) => 'site' in i && [i.id, `${i.host}:${i.port}`])
    expect(places).toEqual(Object.entries(PORTS).map(([id, port]) => [id, `127.0.0.1:${port}`]))
  })

  it('calls each instance by its own URL where there is no Nginx, and needs no secret then', () => {
    const fleet = fleetOf(localFleet(EXAMPLE, PORTS, null))
    expect(fleet.sites).toEqual({})
    expect(namedSecrets(fleet)).toEqual([])
    const instances = Object.values(fleet.pools).flatMap((pool) => pool.instances)
    const urls = instances.map((i) => 'url' in i && [i.id, i.url])
    expect(urls).toEqual(Object.entries(PORTS).map(([id, p]) => [id, `http://127.0.0.1:${p}`]))
  })

  it('asks for no token of a tunnel that is not there', () => {
    expect(namedSecrets(fleetOf(localFleet(EXAMPLE, PORTS, origin)))).toEqual(['NODE_KEY_A'])
  })

  it('changes nothing else', () => {
    const [before, after] = [fleetOf(EXAMPLE), fleetOf(localFleet(EXAMPLE, PORTS, origin))]
    expect(after.models).toEqual(before.models)
    expect(after.defaults).toEqual(before.defaults)
    for (const [pool, { instances, ...rest }] of Object.entries(before.pools)) {
      const now = after.pools[pool]
      expect(now).toMatchObject(rest)
      const shares = (list: typeof instances) => list.map((i) => [i.id, i.slots, i.weight])
      expect(shares(now?.instances ?? [])).toEqual(shares(instances))
    }
  })
})
