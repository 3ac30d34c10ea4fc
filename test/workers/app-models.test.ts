/** The operators' API of models, arms and rollouts, over the real Worker. */
import { reset } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import { applied, figures, report, weights } from './gray.ts'
import { refused, told } from './operator.ts'
import { OPERATOR, operate, send } from './world.ts'

const ROLLOUT = '/models/qwen/arms/canary/rollout'
const START = { order: 'start', steps: [1, 5, 100], every_ms: 600_000, message: 'v2' }

beforeEach(async () => {
  await reset()
  await applied()
})

describe("the operators' API", () => {
  it('shows models with their arms', async () => {
    const { said } = await told('GET', '/models')
    expect(said).toMatchObject({
      models: [
        {
          model: 'qwen',
          arms: [
            { name: 'stable', share: 90, rollout: null, figures: { requests: 0 } },
            { name: 'canary', share: 10, fileWeight: 10 },
          ],
          guard: { minRequests: 50 },
          shadow: null,
        },
        { model: 'org/model:tag' },
      ],
    })
    expect(await refused('GET', '/models/x')).toMatchObject({
      status: 404,
      code: 'model_not_found',
    })
  })

  it('gives orders, in the name of who gives them', async () => {
    const { status, said } = await told('POST', ROLLOUT, START)
    expect(status).toBe(200)
    expect(said).toMatchObject({
      model: 'qwen',
      arm: 'canary',
      rollout: { state: 'running', share: 1, everyMs: 600_000, by: 'admin', why: 'v2' },
    })
    expect(await weights()).toEqual([99, 1])
    expect((await told('POST', ROLLOUT, { order: 'end' })).said).toMatchObject({ rollout: null })
    expect(await weights()).toEqual([90, 10])
  })

  it('knows a model by its whole name, with slashes and colons', async () => {
    const path = `/models/${encodeURIComponent('org/model:tag')}`
    expect((await told('GET', path)).said).toMatchObject({ model: 'org/model:tag' })
    const { status } = await told('POST', `${path}/arms/canary/rollout`, { order: 'abort' })
    expect(status).toBe(200)
    expect((await told('GET', path)).said).toMatchObject({
      arms: [{}, { rollout: { model: 'org/model:tag', state: 'aborted' } }],
    })
  })

  it.each([
    [{ order: 'begin' }, 'order'],
    [{ order: 'start' }, 'steps'],
    [{ ...START, steps: [] }, 'steps'],
    [{ ...START, steps: [5, 1] }, 'steps'],
    [{ ...START, steps: [1, 101] }, 'steps'],
    [{ ...START, steps: ['1%'] }, 'steps.0'],
    [{ ...START, every_ms: 10 }, 'every_ms'],
    [{ ...START, everyMs: 10 }, 'everyMs'],
    [{ order: 'pause', steps: [1] }, 'steps'],
    [{ order: 'pause', message: 'a\nb' }, 'message'],
  ])('takes no order such as %j', async (order, param) => {
    expect(await refused('POST', ROLLOUT, order)).toMatchObject({
      status: 400,
      code: 'invalid_value',
      param,
    })
    expect(await weights()).toEqual([90, 10])
  })

  it('says what there is where something is not', async () => {
    const order = { order: 'pause' }
    expect(await refused('POST', '/models/x/arms/canary/rollout', order)).toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'model',
    })
    expect(await refused('POST', '/models/qwen/arms/x/rollout', order)).toMatchObject({
      status: 404,
      param: 'arm',
      message: 'Model "qwen" has no arm "x". Its arms: stable, canary.',
    })
    expect(await refused('POST', ROLLOUT, order)).toMatchObject({
      status: 412,
      code: 'conflict',
      message: 'Not done: no rollout of canary is under way.',
    })
  })

  it('says which rollouts a version has ended', async () => {
    await told('POST', ROLLOUT, START)
    const yaml = await told('GET', '/fleet')
    const changed = String(yaml.said['yaml']).replace('weight: 10,', 'weight: 11,')
    const without = changed.replace(/^webhooks:.*$/m, '')
    const answer = await operate('PUT', '/fleet', without)
    expect(await answer.json()).toMatchObject({ ended: [{ model: 'qwen', arm: 'canary' }] })
  })

  it('has the arms among its metrics', async () => {
    await told('POST', ROLLOUT, START)
    await report(figures('canary', { requests: 7, failed: 2 }))
    const page = await (await send('/metrics', { headers: OPERATOR })).text()
    expect(page).toContain('penstock_arm_share{model="qwen",arm="canary"} 0.01\n')
    expect(page).toContain('penstock_arm_rollout{model="qwen",arm="canary",state="running"} 1\n')
    expect(page).toContain('penstock_arm_window_requests{model="qwen",arm="canary"} 7\n')
    expect(page).toContain(
      'penstock_arm_window_bad_requests{model="qwen",arm="canary",how="failed"} 2\n',
    )
  })
})
