import type { Command } from 'commander'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { callAdmin } from './admin-api.ts'
import { EXIT, Failure } from './failure.ts'
import { networked, type Networked } from './fleet.ts'
import { paint, print, printJson } from './output.ts'
import { withProgress } from './progress.ts'

/** Between two looks at a pool, in milliseconds. */
const LOOK_MS = 500
/** So many looks in a row may fail: a router that is being deployed is back in seconds. */
const MOST_FAILED = 20

/** What an instance still has to do. One that moved is there twice while its old process drains. */
const leftOn = ({ instances }: PoolStatus, id: string): number =>
  instances.reduce((sum, it) => (it.id === id ? sum + it.inFlight : sum), 0)

const requests = (count: number): string => (count === 1 ? '1 request' : `${count} requests`)

interface DrainOptions extends Networked {
  readonly wait: boolean
}

async function drain(pool: string, instance: string, options: DrainOptions): Promise<void> {
  const { url, json = false, wait } = options
  const path = ['pools', pool, 'instances', instance, 'drain']
  let status = await callAdmin<PoolStatus>(url, path, { method: 'POST' })
  if (wait && leftOn(status, instance) > 0) {
    const line = (seconds: number) =>
      `${instance} still has ${requests(leftOn(status, instance))} … ${seconds} s`
    const seen = (now: PoolStatus) => (status = now)
    await withProgress(line, untilEmpty(url, pool, instance, seen))
  }
  if (json) return printJson(status)
  const left = leftOn(status, instance)
  if (left === 0) return print(`${paint.green('drained')} ${instance}: it has no request left`)
  return print(`${instance} gets no new requests; it still has ${requests(left)}`)
}

/** @throws Failure `conflict` when somebody lets it work again meanwhile */
async function untilEmpty(
  url: string | undefined,
  pool: string,
  instance: string,
  seen: (status: PoolStatus) => void,
): Promise<void> {
  let failed = 0
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    try {
      const status = await callAdmin<PoolStatus>(url, ['pools', pool])
      failed = 0
      seen(status)
      if (leftOn(status, instance) === 0) return
      // One that has left the file drains too, whether it was told to or not.
      const isUndone = status.instances.some(
        ({ id, drained, state }) => id === instance && drained === false && state !== 'draining',
      )
      if (isUndone) {
        throw new Failure(EXIT.conflict, `somebody lets ${instance} work again; it is not empty`)
      }
    } catch (cause) {
      const isPassing = cause instanceof Failure && cause.exit === EXIT.unreachable
      if (!isPassing || ++failed >= MOST_FAILED) throw cause
    }
  }
}

async function undrain(
  pool: string,
  instance: string,
  { url, json = false }: Networked,
): Promise<void> {
  const path = ['pools', pool, 'instances', instance, 'undrain']
  const status = await callAdmin<PoolStatus>(url, path, { method: 'POST' })
  if (json) return printJson(status)
  const now = status.instances.find(({ id }) => id === instance)
  return print(`${instance} may work again; it is ${now?.state ?? 'gone'}: ${now?.reason ?? ''}`)
}

/** The commands `drain` and `undrain`. */
export function addDrainCommands(program: Command): void {
  networked(program.command('drain'))
    .summary('give an instance no new requests')
    .description('give an instance no new requests, and wait until it has none left')
    .argument('<pool>')
    .argument('<instance>')
    .option('--no-wait', 'do not wait')
    .action(drain)
  networked(program.command('undrain'))
    .description('let an instance work again')
    .argument('<pool>')
    .argument('<instance>')
    .action(undrain)
}
