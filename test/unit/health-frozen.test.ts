/** The readings and the judgement together, against a simulated vLLM over a socket. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import type { Patient } from '../../durable-objects/health/chart.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import { look } from '../../durable-objects/health/probe.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { post, until } from './sim-wire.ts'

const health = { everyMs: 5_000, timeoutMs: 2_000, downAfter: 3, upAfter: 2 }

let sim: Sim
beforeEach(async () => {
  sim = await startSim({ model: 'm', profile: { ttftBaseMs: 5, itlBaseMs: 4, itlMsPerRunning: 0 } })
})
afterEach(() => sim.close())

/** Real readings, in rounds that are five seconds apart on the test's own clock. */
function watched() {
  const clock = { now: 1_000_000 }
  const at: Target = { instance: 'a', base: sim.url, site: null, secrets: [] }
  const a: Patient = {
    config: { ...at, process: 'a', slots: 8, weight: 1, lastResort: false },
  }
  const fitness = new Fitness<Patient>({
    now: () => clock.now,
    look: (target, purpose) =>
      look(
        target,
        { servedAs: 'm', timeoutMs: health.timeoutMs, purpose, lastResort: false },
        { fetch, secretOf: () => undefined },
      ),
    onChange: () => undefined,
    onOut: () => undefined,
  })
  fitness.configure([a], { health })
  const round = async (): Promise<string> => {
    clock.now += health.everyMs
    await fitness.look()
    return fitness.ward(a).state
  }
  return { round, ward: fitness.ward(a), clock }
}

/** A request that goes on for long, whatever becomes of it. */
const longAnswer = (): void =>
  void post(sim, '/v1/completions', { model: 'm', prompt: 'hi', max_tokens: 5_000 }).catch(
    () => null,
  )

describe('a simulated engine', () => {
  it('that freezes while it works is out within 15 s of its readings, and back when it thaws (L07)', async () => {
    const { round, ward, clock } = watched()
    longAnswer()
    await until(() => sim.state().running === 1)
    expect(await round()).toBe('ready')
    await sim.setFault({ kind: 'freeze' })
    const frozenAt = clock.now
    // At the first reading already, where it has generated nothing between the one before and its freezing.
    const reasons: string[] = []
    while (clock.now < frozenAt + 10_000)
      if ((await round()) === 'down') reasons.push(ward.reason ?? '')
    expect(ward.state).toBe('down')
    expect(reasons[0]).toBe('its engine has work and stands still: no answer in time')
    for (let i = 0; i < 4; i++) expect(await round(), 'it answers, and is busy').toBe('down')

    await sim.setFault(null)
    // Real time: on a busy machine an engine that has just thawed may miss a reading.
    let back = await round()
    for (let i = 0; i < 10 && back !== 'ready'; i++) back = await round()
    expect(back).toBe('ready')
  })

  it('that begins a long answer late is none: it answers the one token', async () => {
    await sim.setFault({ kind: 'late-start', ms: 60_000, times: 1 })
    const { round } = watched()
    longAnswer()
    await until(() => sim.state().running === 1)
    for (let i = 0; i < 6; i++) expect(await round()).toBe('ready')
    const asked = sim.requests().filter(({ path }) => path === '/v1/completions')
    expect(asked.length, 'the long one, and one token on suspicion').toBe(2)
  })
})
