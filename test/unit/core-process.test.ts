import { expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { compileFleet } from '../../durable-objects/fleet/compile.ts'

const FLEET = `
sites:
  s: { origin: "https://gpu-a.example.com", node_key: KEY_A }
  t: { origin: "https://gpu-b.example.com", node_key: KEY_B }
pools:
  p:
    served_as: Qwen
    instances:
      - { id: behind, site: s, host: 10.0.0.12, port: 8001, slots: 4 }
      - { id: direct, url: "http://10.0.0.13:8001", slots: 4 }
models: { m: { arms: [{ pool: p }] } }
`

/** Which processes a file speaks of: the one behind a site, and the one that is called directly. */
function processesOf(yaml: string): readonly (string | undefined)[] {
  const checked = checkFleet(yaml)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  const [pool] = compileFleet(checked.fleet, 1, {}).pools
  return (pool?.instances ?? []).map(({ process }) => process)
}
const [BEHIND, DIRECT] = processesOf(FLEET)

it.each([
  { from: 'served_as: Qwen', to: 'served_as: Other', which: [true, true] },
  { from: 'host: 10.0.0.12, port: 8001', to: 'host: 10.0.0.12, port: 8002', which: [true, false] },
  { from: 'host: 10.0.0.12', to: 'host: 10.0.0.99', which: [true, false] },
  { from: 'site: s', to: 'site: t', which: [true, false] },
  { from: '10.0.0.13:8001', to: '10.0.0.13:8002', which: [false, true] },
  { from: '10.0.0.13', to: '10.0.0.14', which: [false, true] },
])('$to makes another process of [behind a site, direct]: $which (L12)', ({ from, to, which }) => {
  const [behind, direct] = processesOf(FLEET.replace(from, to))
  expect([behind !== BEHIND, direct !== DIRECT]).toEqual(which)
})

it.each([
  { from: 'slots: 4', to: 'slots: 9' },
  { from: 'slots: 4', to: 'slots: 4, weight: 3' },
  { from: 'served_as: Qwen', to: 'served_as: Qwen\n    policy: round_robin' },
  { from: 'gpu-a.example.com', to: 'gpu-c.example.com' },
  { from: 'models: { m:', to: 'models: { n:' },
])('$to leaves every process what it was', ({ from, to }) => {
  expect(processesOf(FLEET.replace(from, to))).toEqual([BEHIND, DIRECT])
})

it('is told apart from every other one', () => {
  expect(new Set([BEHIND, DIRECT]).size).toBe(2)
})
