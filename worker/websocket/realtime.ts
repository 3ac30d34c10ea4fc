import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { entrance, identify, type Ctx } from '../entrance.ts'
import { forwardDeps, reservationFor } from '../forward-deps.ts'
import { lend, settleUse, undo, type Lent } from '../lend.ts'
import { Refusal, type RefusalCode } from '../refusal.ts'
import { modelAt, modelNamed, type Destination } from '../routing/names.ts'
import { after } from '../timers.ts'
import { bridge } from './bridge.ts'
import { dial, type Dialled } from './dial.ts'
import { firstUpdate, type Named } from './first-update.ts'
import { greet } from './greet.ts'
import { upgrade } from './handshake.ts'
import { errorEvent } from './realtime-names.ts'
import { wireOf, type Wire } from './wire.ts'

/** How long, and with how much of it kept, a client may go without naming its model. */
const WAIT_MS = 10_000
const HOLD_BYTES = 1024 * 1024
/** Some 24 seconds of audio in one frame; vLLM takes more, nobody sends it. */
const FRAME_BYTES = 1024 * 1024

/**
 * `/v1/realtime`: a WebSocket to one instance, whose slot it holds for as long as it lives. Where the
 * URL says the model, the upgrade is answered once upstream stands, so that a failure is an ordinary
 * HTTP error; else the first `session.update` says it.
 * @throws Refusal before the upgrade
 */
export async function realtimeSocket(c: Ctx): Promise<Response> {
  const { snapshot, destination } = await greet(c)
  const { raw } = c.req
  const asked = c.req.query('model') ?? null
  if (asked !== null || modelAt(snapshot, destination)) {
    const dialled = await connect(c, asked, raw.signal)
    const { wire, response } = upgrade(raw.headers)
    stand(wire, dialled, asked)
    return response
  }
  const { wire, response } = upgrade(raw.headers)
  c.executionCtx.waitUntil(connectLater(c, wire))
  return response
}

/** Never rejects. */
async function connectLater(c: Ctx, wire: Wire): Promise<void> {
  const leave = new AbortController()
  const { requestId } = c.get('receipt')
  const named = await firstUpdate(wire, leave, {
    after,
    waitMs: WAIT_MS,
    holdBytes: HOLD_BYTES,
    session: `sess-${requestId}`,
    created: Math.floor(Date.now() / 1000),
  })
  if (!named) return
  try {
    const dialled = await connect(c, named.model, leave.signal)
    stand(wire, dialled, named.model, named)
  } catch (error) {
    const refusal = Refusal.from(error)
    if (refusal.cause !== undefined && !leave.signal.aborted) {
      console.error(`${requestId} ${refusal.code}:`, refusal.cause)
    }
    wire.send(errorEvent(refusal.code, refusal.message))
    wire.close({ code: codeOf(refusal.status), reason: refusal.message })
  }
}

/** A refusal's status as a close code: the client's fault, come again later, ours. */
function codeOf(status: number): number {
  if (status === 429 || status === 503) return 1013
  return status < 500 ? 1008 : 1011
}

interface Session extends Dialled<Lent> {
  /** The fleet as it was when the socket came, and what its URL says. */
  readonly snapshot: Snapshot
  readonly destination: Destination
  readonly deadline: number
}

async function connect(c: Ctx, model: string | null, signal: AbortSignal): Promise<Session> {
  const startedAt = Date.now()
  const receipt = c.get('receipt')
  const { snapshot, destination } = await entrance(c)
  const identity = await identify(c, snapshot)
  const reservation = reservationFor(c, { snapshot, identity, receipt }, forwardDeps(c))
  let tries = 0
  let wasSent = false
  const deps = {
    lend: (avoid: readonly string[]) => {
      receipt.attempts = ++tries
      const who = { identity, reservation, signal }
      return lend(c, { model, receipt, snapshot, destination, ...who, avoid })
    },
    fetch: (url: string, init: RequestInit) => {
      wasSent = true
      return fetch(url, init)
    },
    after,
    log: (message: string) => console.warn(`${receipt.requestId} ${message}`),
  }
  const headers = { 'x-request-id': receipt.requestId }
  const dialled = await dial(deps, { headers, signal }).catch((error: unknown) => {
    // Who leaves while he waits for a slot is answered as one who leaves an instance.
    const tried = wasSent && error instanceof Refusal && TRIED.has(error.code)
    if (tried)
      settleUse(reservation, signal.aborted ? 'client-left' : 'upstream-failed', model ?? '')
    else undo(reservation)
    throw error
  })
  return {
    ...dialled,
    snapshot,
    destination,
    deadline: startedAt + dialled.line.route.pool.timeouts.totalMs,
  }
}

/** What an instance, and not the want of one, may be answered with. */
const TRIED: ReadonlySet<RefusalCode> = new Set(['upstream_failed', 'upstream_timeout'])

function stand(
  client: Wire,
  { line: { route, slot, reservation, settle }, socket, snapshot, destination, deadline }: Session,
  asked: string | null,
  named: Named | null = null,
): void {
  const { pool, shown } = route
  const base = snapshot.pools[pool.pool]?.servedAs ?? pool.servedAs
  const isOwn = (name: string) => name === asked || modelNamed(snapshot, name)?.name === route.asked
  bridge({
    client,
    upstream: wireOf(socket),
    names: {
      servedAs: pool.servedAs,
      base,
      shown,
      accepts: modelAt(snapshot, destination) ? null : isOwn,
    },
    limits: { frameBytes: FRAME_BYTES, unansweredBytes: pool.limits.audioBytes },
    timeouts: pool.timeouts,
    deadline,
    now: Date.now,
    watch: (onDismissed, onWithdrawn) => {
      slot.watch(onDismissed)
      reservation.watch(({ message }) => onWithdrawn(message))
    },
    settle,
    held: named?.held() ?? [],
    greeted: named !== null,
  })
}
