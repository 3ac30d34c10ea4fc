/** A version has to fit into a row of Cloudflare's; nothing else here has such a limit, so only the check tells. */
import { expect, it } from 'vitest'
import { checkDeployable } from '../../durable-objects/fleet/deployable.ts'
import { bytesOf } from '../../durable-objects/fleet/stored-size.ts'

const POOLS = 30
/** A fleet of so many instances, behind one site. */
function fleetOf(instances: number, comment = ''): string {
  const each = Math.ceil(instances / POOLS)
  const pools = Array.from({ length: POOLS }, (_, pool) => {
    const hosts = Array.from({ length: each }, (_one, i) => {
      return `{ id: i${pool}-${i}, site: lab, host: 10.0.${pool}.${i}, port: 8001 }`
    })
    return `  p${pool}: { served_as: M, instances: [${hosts.join()}] }`
  })
  return `${comment}
sites: { lab: { origin: https://gpu.example.com, node_key: KEY } }
pools:
${pools.join('\n')}
models: { m: { arms: [${pools.map((_, pool) => `{ pool: p${pool} }`).join()}] } }
`
}
const check = (yaml: string) => checkDeployable(yaml, () => true)
const TOO_LARGE = {
  ok: false,
  problems: [
    {
      path: '',
      line: 1,
      message: expect.stringMatching(/have \d\.\d MB, .* at most 1\.9 MB/) as string,
    },
  ],
}

it('takes a fleet of four thousand instances', () => {
  expect(check(fleetOf(4_000))).toMatchObject({ ok: true })
})

it('refuses what would not fit, with its size and what to do', () => {
  const fleet = fleetOf(5_000)
  expect(bytesOf(fleet), 'though the file itself is small').toBeLessThan(400_000)
  expect(check(fleet)).toMatchObject(TOO_LARGE)
})

it('counts bytes, not letters', () => {
  expect(check(fleetOf(2_000, `#${'x'.repeat(340_000)}`))).toMatchObject({ ok: true })
  expect(check(fleetOf(2_000, `#${'龙'.repeat(340_000)}`))).toMatchObject(TOO_LARGE)
})
