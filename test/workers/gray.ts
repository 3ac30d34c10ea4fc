/** A small fleet with arms: two models, one of them guarded, and a webhook that hears of guards. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { vi } from 'vitest'
import type { ArmFigures, ModelStatus } from '../../durable-objects/fleet/contract.ts'
import { SETTLE_MS } from '../../durable-objects/fleet/guard-watch.ts'
import { fleet, fleetStub } from './world.ts'

export const GRAY = `
defaults: { health: { every: 5s, timeout: 500ms, down_after: 2, up_after: 1 } }
pools:
  p: { served_as: M, instances: [{ id: a, url: "http://127.0.0.1:9001", slots: 2 }] }
  q: { served_as: M, instances: [{ id: b, url: "http://127.0.0.1:9002", slots: 2 }] }
models:
  qwen:
    arms: [{ pool: p, weight: 90 }, { pool: q, weight: 10, name: canary }]
    guard: { window: 2m, min_requests: 50 }
  org/model:tag:
    arms: [{ pool: p, weight: 1 }, { pool: q, weight: 0, name: canary }]
webhooks: [{ url_secret: ALERT_URL, events: [guard] }, { url_secret: OTHER_URL, events: [budget] }]
`
export const NAME = { model: 'qwen', arm: 'canary' }

const SECRETS = ['ALERT_URL', 'OTHER_URL']

/** Applies a file. @throws where it is not taken */
export async function applied(yaml: string = GRAY) {
  const done = await fleet().apply({ yaml, ifVersion: null, secrets: SECRETS })
  if (done.kind !== 'applied') throw new Error(JSON.stringify(done))
  return done
}

/** Goes back to a version. */
export const backTo = (version: number) =>
  fleet().rollback({ version, ifVersion: null, secrets: SECRETS })

type Words =
  | { readonly order: 'start'; readonly steps: readonly number[]; readonly everyMs?: number }
  | { readonly order: 'pause' | 'resume' | 'abort' | 'end' }

/** Gives an order of the canary. */
export const order = (words: Words, more: object = {}) => {
  const whole = { ...NAME, by: 'ann', message: null, everyMs: 600_000, ...words, ...more }
  return fleet().rollout!(whole)
}
export const start = (...steps: number[]) => order({ order: 'start', steps })

export const snapshotNow = async () => (await fleet().snapshot(0))!
export const modelNow = async () => (await snapshotNow()).models['qwen']!
/** Weights of the arms as Workers see them. */
export const weights = async () => (await modelNow()).arms.map(({ weight }) => weight)
export const canary = async () =>
  (await fleet().models!()).find(({ model }: ModelStatus) => model === 'qwen')!.arms[1]!

/** The alarm, as if so much time had gone by for the steps: all of them are due. */
export const stepNow = () =>
  runInDurableObject(fleetStub(), async (object, { storage }) => {
    storage.sql.exec('UPDATE rollouts SET next_at = 0 WHERE next_at IS NOT NULL')
    await object.alarm()
  })
export const ring = () => runDurableObjectAlarm(fleetStub())

export const figures = (arm: string, named: Partial<ArmFigures> = {}): ArmFigures => ({
  model: 'qwen',
  arm,
  requests: 100,
  failed: 0,
  truncated: 0,
  empty: 0,
  lost: 0,
  ttft: {},
  interToken: {},
  ...named,
})
const clock = { behindMs: 0 }
const realNow = Date.now
// Each object reads it at its birth, so it is put in before.
vi.spyOn(Date, 'now').mockImplementation(() => realNow() - clock.behindMs)

/** Does something as long ago as a finding takes to settle. */
export async function earlier(act: () => Promise<unknown>): Promise<void> {
  clock.behindMs = SETTLE_MS
  await act()
  clock.behindMs = 0
}

/** A pool's report, and one with nothing new once that has settled. */
export async function report(...arms: ArmFigures[]): Promise<void> {
  await earlier(() => reportNow(...arms))
  await reportNow(...arms.map(({ model, arm }) => figures(arm, { model, requests: 0 })))
}
export const reportNow = (...arms: ArmFigures[]) => fleet().report!({ pool: 'q', arms })
export const reportBad = () =>
  report(figures('stable', { requests: 900 }), figures('canary', { truncated: 12 }))
