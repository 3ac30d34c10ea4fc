/** What the tests of the pools' decisions ask of a stack, and read out of its answers. */
import type { InstanceStatus, PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { RequestRecord } from '../../scripts/sim/records.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { keyOf, type Fields } from './e2e-api.ts'
import { ask, open, type Open, type Received } from './e2e-http.ts'
import { eventually } from './e2e-wait.ts'
import type { Stack } from './stack.ts'

export const CHAT = '/v1/chat/completions'

/** A quick simulator: what it takes is the router's time, not the model's. */
export const QUICK = { ttftBaseMs: 5, prefillMsPerToken: 0, itlBaseMs: 3, itlMsPerRunning: 0 }

export interface Question extends Fields {
  readonly text?: string
  readonly messages?: readonly object[]
  readonly max_tokens?: number
  readonly stream?: boolean
}

const bodyOf = (model: string, { text = 'hello', ...fields }: Question): object => ({
  model,
  messages: [{ role: 'user', content: text }],
  max_tokens: 4,
  ...fields,
})

type Caller = Pick<Stack, 'url' | 'apiKey'>

export const chat = (stack: Caller, model: string, question: Question = {}): Promise<Received> =>
  ask(stack.url + CHAT, { headers: keyOf(stack), body: bodyOf(model, question) })

/** An answer on its way: streamed, for as many tokens as nobody waits for. */
export const chatOpen = (
  stack: Caller,
  model: string,
  question: Question = {},
  signal?: AbortSignal,
): Promise<Open> =>
  open(stack.url + CHAT, {
    headers: keyOf(stack),
    body: bodyOf(model, { stream: true, max_tokens: 4_000, ...question }),
    ...(signal && { signal }),
  })

/** Sends `count` requests, so many at once, and gives their answers in the order they were sent. */
export async function many<T>(
  count: number,
  atOnce: number,
  send: (i: number) => Promise<T>,
): Promise<T[]> {
  const answers: T[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < count) {
      const i = next++
      answers[i] = await send(i)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
  return answers
}

/** Tenants' requests that reached a simulator; looks of the pool are not among them. */
export const tenantsAt = (sim: Sim): readonly RequestRecord[] =>
  sim.requests().filter(({ id }) => id?.startsWith('req_'))

export const instanceIn = ({ instances }: PoolStatus, id: string): InstanceStatus => {
  const found = instances.find((instance) => instance.id === id)
  if (!found) throw new Error(`no instance ${id}`)
  return found
}

/** The pool of an instance whose id is `<pool>-<name>`, by its own word and nobody else's. */
export const poolStatus = async (stack: Stack, pool: string): Promise<PoolStatus> => {
  const { status, json } = await operator(stack, 'GET', `/admin/pools/${pool}`)
  if (status !== 200) throw new Error(`pool ${pool}: ${status} ${JSON.stringify(json)}`)
  return json as unknown as PoolStatus
}

export const instanceStatus = async (stack: Stack, pool: string, id: string) =>
  instanceIn(await poolStatus(stack, pool), id)

export const becomes = (
  stack: Stack,
  [pool, id]: readonly [pool: string, id: string],
  isSo: (instance: InstanceStatus) => boolean,
  withinMs?: number,
): Promise<InstanceStatus> => eventually(() => instanceStatus(stack, pool, id), isSo, withinMs)

/** Waits until not one, but every instance of every pool is ready. */
export async function allReady(stack: Stack): Promise<Stack> {
  await eventually(
    () => stack.admin.pools(),
    (pools) => pools.every(({ instances }) => instances.every(({ state }) => state === 'ready')),
    15_000,
  )
  return stack
}

export interface Said {
  readonly status: number
  readonly json: Fields
}

/** @param token null: none at all */
export async function operator(
  { url, adminToken }: Pick<Stack, 'url' | 'adminToken'>,
  method: 'GET' | 'POST',
  path: string,
  { body, token = adminToken }: { body?: unknown; token?: string | null } = {},
): Promise<Said> {
  const { status, text } = await ask(url + path, {
    method,
    headers: { authorization: token === null ? undefined : `Bearer ${token}` },
    ...(body !== undefined && { body: body as object }),
  })
  return { status, json: JSON.parse(text) as Fields }
}

/** The refusal's code, in OpenAI's shape. */
export const codeOf = ({ text }: Pick<Received, 'text'>): unknown =>
  (JSON.parse(text) as { error?: { code?: unknown } }).error?.code
