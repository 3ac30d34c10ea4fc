import {
  CONTRACT_VERSION,
  type ArmName,
  type ServiceClass,
} from '../../durable-objects/pool/contract.ts'
import type {
  Bill,
  Claim,
  ReservationRpc,
  Running,
  TenantRpc,
} from '../../durable-objects/tenant/contract.ts'
import { allowsModel } from '../../durable-objects/tenant/model-globs.ts'
import { admit, type Admittance, type Applicant } from '../ingress/admit.ts'
import { invalidKey } from '../ingress/authenticate.ts'
import type { Receipt } from '../receipt.ts'
import { Refusal } from '../refusal.ts'
import { Keeper, type Grip } from './keeper.ts'
import type { Reservation } from './order.ts'

export interface ReservationDeps {
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** In [0, 1). */
  readonly random: () => number
  /** Keeps the request's context alive until the work is over. */
  readonly defer: (work: Promise<unknown>) => void
  readonly log: (message: string, cause?: unknown) => void
  /** Where a request's use is told beside the ledger. */
  readonly meter: (identity: Applicant['identity'], bill: Bill) => void
}

/** What a tenant without a plan is served as, and one whose class is not known yet. */
const USUAL_CLASS: ServiceClass = 'standard'

/** A settlement that a reset has swallowed is told again so many times. */
const SETTLE_TRIES = 4
const SETTLE_AGAIN_MS = 500

/**
 * The Worker's end of one request's part of its tenant's allowance: asked for once, however many
 * attempts and fallbacks there are, and settled once, whatever becomes of them.
 */
export class TenantReservation implements Reservation {
  readonly #applicant: Applicant
  readonly #receipt: Receipt
  readonly #deps: ReservationDeps
  #asked: Promise<Held | null> | null = null
  #class: ServiceClass | null
  #models: readonly string[] | null = null
  #keeps: ArmName | null = null
  #over = false
  #held: Held | null = null
  #onWithdrawn: (why: Refusal) => void = () => undefined
  #withdrawn: Refusal | null = null

  constructor(applicant: Applicant, receipt: Receipt, deps: ReservationDeps) {
    this.#applicant = applicant
    this.#receipt = receipt
    this.#deps = deps
    this.#class = applicant.standings.of(applicant.identity)?.class ?? null
  }

  get warm(): boolean {
    const { standings, identity } = this.#applicant
    return this.#class !== null && !standings.isPressed(identity)
  }

  get class(): ServiceClass {
    return this.#class ?? USUAL_CLASS
  }

  async reserve(claim: () => Claim): Promise<void> {
    this.#asked ??= this.#ask(claim())
    await this.#asked
  }

  get keeps(): ArmName | null {
    return this.#keeps
  }

  allows(model: string): boolean {
    return this.#models === null || allowsModel(this.#models, model)
  }

  watch(onWithdrawn: (why: Refusal) => void): void {
    if (this.#withdrawn) return onWithdrawn(this.#withdrawn)
    this.#onWithdrawn = onWithdrawn
    this.#held?.keeper.watch(() => void this.#withdraw())
  }

  get withdrawn(): Refusal | null {
    return this.#withdrawn
  }

  settle(bill: Bill): void {
    if (this.#over) return
    this.#over = true
    if (this.#asked) this.#deps.defer(this.#settle(this.#asked, bill))
  }

  async #withdraw(): Promise<void> {
    this.#withdrawn = await this.#whyWithdrawn()
    this.#onWithdrawn(this.#withdrawn)
  }

  /** The object says that it is over, and only to one who asks, why. */
  async #whyWithdrawn(): Promise<Refusal> {
    try {
      await admit(this.#applicant, null)
    } catch (why) {
      if (why instanceof Refusal) return why
    }
    return invalidKey()
  }

  async #ask(claim: Claim): Promise<Held | null> {
    const admittance = await admit(this.#applicant, claim)
    this.#class = admittance.standing?.class ?? this.#class ?? USUAL_CLASS
    this.#models = admittance.standing?.models ?? null
    const { keepsArm } = admittance
    if (keepsArm !== undefined) this.#keeps = { model: claim.model, arm: keepsArm }
    if (admittance.allowances) this.#receipt.allowances = admittance.allowances
    if (admittance.overLimit) this.#receipt['dry-run'] = admittance.overLimit
    this.#held = this.#keep(admittance, claim)
    return this.#held
  }

  #keep(admittance: Admittance, claim: Claim): Held | null {
    const { reservation, at = this.#deps.now() } = admittance
    if (!reservation) return null // an object of the release before keeps no account
    const { tenant, identity } = this.#applicant
    const running = { contract: CONTRACT_VERSION, keyId: identity.keyId, at, claim }
    const again = async (): Promise<Grip<ReservationRpc> | 'taken'> => {
      const resumed = await tenant().resume(running)
      return resumed.kind === 'gone' ? 'taken' : { kept: resumed.reservation, from: resumed }
    }
    const { sleep, random } = this.#deps
    const grip = { kept: reservation, from: admittance }
    return { running, keeper: new Keeper(grip, { again, sleep, random }) }
  }

  async #settle(asked: Promise<Held | null>, bill: Bill): Promise<void> {
    const held = await asked.catch(() => null)
    if (!held) return
    try {
      await held.keeper.end((reservation) => reservation.settle(bill))
    } catch {
      await this.#settleAnew(held.running, bill)
    }
    if (bill.ending !== 'refused') this.#meter(bill)
  }

  /** For dashboards: the platform takes so many points from one invocation, and then throws. */
  #meter(bill: Bill): void {
    try {
      this.#deps.meter(this.#applicant.identity, bill)
    } catch (cause) {
      this.#deps.log('a data point was not taken:', cause)
    }
  }

  /** The object was reset, and the reservation with it: its successor books the request by its id, once. */
  async #settleAnew(running: Running, bill: Bill): Promise<void> {
    const { sleep, random, log } = this.#deps
    const tenant = (): TenantRpc => this.#applicant.tenant()
    for (let tries = 0; tries < SETTLE_TRIES; tries++) {
      try {
        return await tenant().settle(running, bill)
      } catch (cause) {
        if (tries === SETTLE_TRIES - 1) log(`${running.claim.request} could not be booked:`, cause)
        else await sleep(random() * SETTLE_AGAIN_MS * 2 ** tries)
      }
    }
  }
}

interface Held {
  readonly running: Running
  readonly keeper: Keeper<ReservationRpc>
}
