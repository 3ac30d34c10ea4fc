import { describe, expect, it, vi } from 'vitest'
import type { Terms } from '../../durable-objects/fleet/snapshot.ts'
import type {
  Admission,
  Admitted,
  Bill,
  Claim,
  Running,
  TenantRpc,
} from '../../durable-objects/tenant/contract.ts'
import { TenantReservation } from '../../worker/forward/tenant-reservation.ts'
import { admit, type Applicant } from '../../worker/ingress/admit.ts'
import { Standings } from '../../worker/ingress/standing.ts'
import type { Receipt } from '../../worker/receipt.ts'
import { Refusal } from '../../worker/refusal.ts'
import { settled } from './core-builders.ts'

const TERMS: Terms = {
  version: 3,
  hash: 'h3',
  plans: {},
  prices: {},
  currency: null,
  timeZone: 'UTC',
  webhooks: [],
}
const CLAIM: Claim = {
  request: 'req_1',
  model: 'qwen',
  promptTokens: 10,
  outputTokens: 20,
  remainingMs: 60_000,
  pressure: 0,
}
const BILL: Bill = {
  ending: 'done',
  model: 'qwen',
  promptTokens: 10,
  completionTokens: 5,
  cachedTokens: null,
  counted: 'reported',
}
const STANDING = { plan: 'pro', class: 'interactive', models: ['*'] } as const

/** A tenant's object that answers as it is told to, and one request's end of it. */
function tenantSaying(...answers: readonly (Admitted | Error)[]) {
  const asked: Admission[] = []
  const settledBy: { readonly by: 'reservation' | 'id'; readonly bill: Bill }[] = []
  const resumed: Running[] = []
  const word = Promise.withResolvers<void>()
  word.promise.catch(() => undefined)
  const state = { settleFails: false, gone: false, badKeys: 0 }
  const reservation = {
    wait: () => word.promise,
    settle: async (bill: Bill) => {
      if (state.settleFails) throw new Error('The Durable Object was reset.')
      settledBy.push({ by: 'reservation', bill })
    },
  }
  const notAsked = (): Promise<never> => Promise.reject(new Error('not asked'))
  const rpc: Partial<TenantRpc> = {
    admit: async (admission) => {
      asked.push(admission)
      const answer = answers[Math.min(asked.length, answers.length) - 1]
      if (!answer || answer instanceof Error) throw answer ?? new Error('no answer')
      return answer
    },
    resume: async (running) => {
      resumed.push(running)
      const again = { ...reservation, wait: () => new Promise<never>(() => undefined) }
      return state.gone ? { kind: 'gone' } : { kind: 'resumed', reservation: again }
    },
    settle: async (_running, bill) => void settledBy.push({ by: 'id', bill }),
    usage: notAsked,
  }
  const standings = new Standings(() => 0)
  const identity = { tenant: 'acme', keyId: 'k1', keyHash: 'hash' }
  const applicant: Applicant = {
    tenant: () => rpc as TenantRpc,
    identity,
    terms: TERMS,
    address: '203.0.113.7',
    standings,
    onBadKey: async () => void state.badKeys++,
  }
  const receipt: Receipt = { requestId: 'req_1', shown: true }
  const deferred: Promise<unknown>[] = []
  const metered: Bill[] = []
  const reservationOf = () =>
    new TenantReservation(applicant, receipt, {
      now: () => 1000,
      sleep: async () => undefined,
      random: () => 0,
      defer: (work) => void deferred.push(work),
      log: () => undefined,
      meter: (_who, bill) => void metered.push(bill),
    })
  const admitted: Admitted = { kind: 'admitted', standing: STANDING, reservation, at: 900 }
  return {
    asked,
    settledBy,
    resumed,
    state,
    standings,
    identity,
    applicant,
    receipt,
    metered,
    reservation,
    reservationOf,
    admitted,
    word,
    over: () => Promise.all(deferred),
  }
}

describe('asking the tenant', () => {
  it('names the terms by their hash alone, and sends them once they are wanted', async () => {
    const world = tenantSaying({ kind: 'terms-wanted' }, { kind: 'admitted', standing: STANDING })
    await admit(world.applicant, null)
    expect(world.asked).toMatchObject([
      { terms: { version: 3, hash: 'h3' }, address: '203.0.113.7', claim: null },
      { newTerms: TERMS },
    ])
    expect(world.asked[0]).not.toHaveProperty('newTerms')
  })

  it.each([
    { code: 'rate_limit_exceeded', retryAfterS: 7, headers: { 'retry-after': '7' } },
    { code: 'rate_limit_exceeded', retryAfterS: null, headers: { 'x-should-retry': 'false' } },
    { code: 'insufficient_quota', retryAfterS: null, headers: { 'x-should-retry': 'false' } },
    { code: 'tenant_suspended', retryAfterS: null, headers: {} },
    { code: 'model_not_allowed', retryAfterS: null, headers: {} },
  ] as const)('passes on $code with $headers (L39)', async ({ code, retryAfterS, headers }) => {
    const allowances = { requests: { limit: 5, remaining: 0, resetMs: 7_000 }, tokens: null }
    const said = {
      kind: 'refused',
      code,
      message: 'Five a minute.',
      retryAfterS,
      allowances,
    } as const
    const world = tenantSaying(said)
    const refusal = await admit(world.applicant, CLAIM).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(Refusal)
    const response = (refusal as Refusal).toResponse()
    // Whose model an alias is, is not told to one who may not use it.
    const told = code === 'model_not_allowed' ? /^Your plan does not/ : /^Five a minute/
    expect(await response.json()).toMatchObject({
      error: { code, message: expect.stringMatching(told) },
    })
    const { 'content-type': _, ...sent } = Object.fromEntries(response.headers)
    expect(sent).toEqual({
      ...headers,
      'x-ratelimit-limit-requests': '5',
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '7s',
    })
    expect((refusal as Refusal).final, 'no fallback is asked').toBe(true)
  })

  it('has one who is at a limit asked about first for as long as he was told to wait', async () => {
    const code = 'rate_limit_exceeded'
    const world = tenantSaying({ kind: 'refused', code, retryAfterS: 7 })
    world.standings.note(world.identity, STANDING)
    expect(world.reservationOf().warm).toBe(true)
    await admit(world.applicant, CLAIM).catch(() => undefined)
    expect(world.reservationOf().warm, 'or he would take slots with what is refused').toBe(false)
  })

  it('asks nobody about a key that was refused a moment ago, and has each try counted', async () => {
    const world = tenantSaying({ kind: 'refused', code: 'invalid_api_key' })
    for (let i = 0; i < 3; i++) {
      await expect(admit(world.applicant, null)).rejects.toMatchObject({ code: 'invalid_api_key' })
    }
    expect(world.asked).toHaveLength(1)
    expect(world.state.badKeys).toBe(3)
  })

  it('takes an object that is out of reach for no word about the key', async () => {
    const world = tenantSaying(new Error('Network connection lost.'))
    await expect(admit(world.applicant, CLAIM)).rejects.toMatchObject({
      code: 'router_unavailable',
    })
    expect(world.standings.of(world.identity)).toBeUndefined()
  })
})

describe('a reservation', () => {
  /** Admitted by the same object that it is settled with. */
  const admittedWorld = () => {
    const made = tenantSaying()
    made.applicant.tenant().admit = async (admission) => {
      made.asked.push(admission)
      return made.admitted
    }
    return made
  }

  it('is made once, however many attempts and fallbacks ask for it', async () => {
    const world = admittedWorld()
    const reservation = world.reservationOf()
    const claim = vi.fn<() => Claim>(() => CLAIM)
    await Promise.all([reservation.reserve(claim), reservation.reserve(claim)])
    await reservation.reserve(claim)
    expect(world.asked).toMatchObject([{ claim: CLAIM }])
    expect(claim).toHaveBeenCalledTimes(1)
  })

  it('knows its class before it is made only where the tenant was served a moment ago', async () => {
    const world = admittedWorld()
    const cold = world.reservationOf()
    expect([cold.warm, cold.class]).toEqual([false, 'standard'])
    await cold.reserve(() => CLAIM)
    expect([cold.warm, cold.class]).toEqual([true, 'interactive'])
    const warm = world.reservationOf()
    expect([warm.warm, warm.class]).toEqual([true, 'interactive'])
  })

  it('says which arm its conversation keeps, once that is known, and of which model', async () => {
    const saying = async (answer: Admitted) => {
      const reservation = tenantSaying(answer).reservationOf()
      const before = reservation.keeps
      await reservation.reserve(() => CLAIM)
      return [before, reservation.keeps]
    }
    const keeps = { model: 'qwen', arm: 'canary' }
    expect(await saying({ kind: 'admitted', keepsArm: 'canary' })).toEqual([null, keeps])
    expect(await saying({ kind: 'admitted' }), 'an object of the release before').toEqual([
      null,
      null,
    ])
  })

  it('is settled once: the first word counts', async () => {
    const made = admittedWorld()
    const reservation = made.reservationOf()
    await reservation.reserve(() => CLAIM)
    reservation.settle(BILL)
    reservation.settle({ ...BILL, ending: 'upstream-failed' })
    await made.over()
    expect(made.settledBy).toEqual([{ by: 'reservation', bill: BILL }])
    expect(made.metered).toEqual([BILL])
  })

  it('settles what was granted after its request was over already', async () => {
    const made = admittedWorld()
    const reservation = made.reservationOf()
    const reserving = reservation.reserve(() => CLAIM)
    reservation.settle({ ...BILL, ending: 'refused' })
    await reserving
    await made.over()
    expect(made.settledBy).toMatchObject([{ bill: { ending: 'refused' } }])
    expect(made.metered, 'what was undone is no use').toEqual([])
  })

  it('asks for nothing to be settled where nothing was reserved', async () => {
    const world = admittedWorld()
    world.reservationOf().settle(BILL)
    await world.over()
    expect(world.settledBy).toEqual([])
  })

  it('is settled though no data point is taken', async () => {
    const made = admittedWorld()
    made.metered.push = () => {
      throw new Error('too many data points')
    }
    const reservation = made.reservationOf()
    await reservation.reserve(() => CLAIM)
    reservation.settle(BILL)
    await made.over()
    expect(made.settledBy).toHaveLength(1)
  })

  it('is booked by its id with the successor of an object that was reset (L30)', async () => {
    const made = admittedWorld()
    const reservation = made.reservationOf()
    await reservation.reserve(() => CLAIM)
    made.state.settleFails = true
    reservation.settle(BILL)
    await made.over()
    expect(made.settledBy).toEqual([{ by: 'id', bill: BILL }])
  })

  it('tells a request that runs that its tenant was suspended', async () => {
    const made = admittedWorld()
    const onRevoked = vi.fn<(why: Refusal) => void>()
    const reservation = made.reservationOf()
    await reservation.reserve(() => CLAIM)
    reservation.watch(onRevoked)
    const code = 'tenant_suspended'
    made.applicant.tenant().admit = async () => ({ kind: 'refused', code, message: 'Unpaid.' })
    made.word.resolve()
    await settled()
    expect(onRevoked).toHaveBeenCalledTimes(1)
    expect(onRevoked.mock.calls[0]?.[0], 'and why').toMatchObject({ code, message: 'Unpaid.' })
  })

  it('tells whoever watches last, and one who comes too late at once: a request has several attempts', async () => {
    const made = admittedWorld()
    const [first, second, late] = [1, 2, 3].map(() => vi.fn<(why: Refusal) => void>())
    const reservation = made.reservationOf()
    await reservation.reserve(() => CLAIM)
    reservation.watch(first!)
    reservation.watch(second!)
    expect(reservation.withdrawn).toBeNull()
    made.applicant.tenant().admit = async () => ({ kind: 'refused', code: 'invalid_api_key' })
    made.word.resolve()
    await settled()
    expect(reservation.withdrawn).toMatchObject({ code: 'invalid_api_key' })
    expect(first, 'that attempt is over').not.toHaveBeenCalled()
    expect(second).toHaveBeenCalledExactlyOnceWith(reservation.withdrawn)
    reservation.watch(late!)
    expect(late).toHaveBeenCalledExactlyOnceWith(reservation.withdrawn)
  })

  it.each([{ gone: true }, { gone: false }])(
    'comes back after a reset, unless its tenant is gone: $gone',
    async ({ gone }) => {
      const made = admittedWorld()
      made.state.gone = gone
      const onRevoked = vi.fn<(why: Refusal) => void>()
      const reservation = made.reservationOf()
      await reservation.reserve(() => CLAIM)
      reservation.watch(onRevoked)
      made.word.reject(new Error('The Durable Object was reset.'))
      await vi.waitFor(() => expect(made.resumed.length).toBeGreaterThan(0))
      await settled()
      expect(made.resumed[0]).toMatchObject({ keyId: 'k1', at: 900, claim: CLAIM })
      expect(onRevoked).toHaveBeenCalledTimes(gone ? 1 : 0)
    },
  )
})
