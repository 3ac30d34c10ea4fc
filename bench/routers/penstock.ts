import { randomBytes } from 'node:crypto'
import { stringify } from 'yaml'
import type { FleetInput } from '../../durable-objects/fleet/schema.ts'
import { adminOf, untilReady } from '../../scripts/local/admin.ts'
import { startRouter } from '../../scripts/local/router.ts'
import type { Target } from './stream.ts'
import { MODEL } from './workloads.ts'

const POOL = 'bench'
const SLOTS = 64
const READY_MS = 20_000

/** One pool with every setting as it is built in, its instances called by URL. */
function fleetFile(ports: readonly number[]): string {
  const instances = ports.map((port, i) => ({
    id: `bench-${i}`,
    url: `http://127.0.0.1:${port}`,
    slots: SLOTS,
  }))
  const file: FleetInput = {
    pools: { [POOL]: { served_as: MODEL, instances } },
    models: { [MODEL]: { arms: [{ pool: POOL }] } },
  }
  return stringify(file)
}

/** Penstock as in a local run, ready once every instance is. @param code the bundled Worker */
export async function startPenstock(
  label: string,
  ports: readonly number[],
  code: string,
  stack: AsyncDisposableStack,
): Promise<Target> {
  const adminToken = randomBytes(24).toString('base64url')
  const signing = randomBytes(24).toString('base64url')
  const said: string[] = []
  const router = await startRouter({
    host: '127.0.0.1',
    port: 0,
    storage: null,
    code,
    secrets: { ADMIN_TOKEN: adminToken, KEY_SIGNING_SECRET: signing },
    onLog: (line) => said.push(line),
  })
  stack.defer(() => router.stop())
  const admin = adminOf(router.url, adminToken)
  await admin.applyFleet(fleetFile(ports))
  await admin.createTenant('bench')
  const key = await admin.createKey('bench', 'bench')
  const missing = await untilReady(() => admin.pools(), READY_MS)
  if (missing.length > 0) throw new Error([...missing, ...said].join('\n'))
  await untilAllReady(async () => {
    const pools = await admin.pools()
    return pools.flatMap(({ instances }) => instances.filter(({ state }) => state !== 'ready'))
  })
  return {
    label,
    port: Number(new URL(router.url).port),
    headers: { authorization: `Bearer ${key}` },
  }
}

async function untilAllReady(missing: () => Promise<readonly unknown[]>): Promise<void> {
  const end = Date.now() + READY_MS
  while ((await missing()).length > 0) {
    if (Date.now() > end) throw new Error(`not ready: ${JSON.stringify(await missing())}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
