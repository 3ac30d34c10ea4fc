import { checkKey, entrance, identify } from '../entrance.ts'
import { callOf } from '../ingress/call.ts'
import { listModels } from '../models.ts'
import { largestBodies } from '../routing/resolve.ts'
import { answer } from '../serve.ts'
import { connectOver } from './connect.ts'

/** The handler of `/penstock.v1.Inference/:method`, over the ways that HTTP requests take. */
export const connect = connectOver({
  answer,
  listModels,
  callOf,
  log: (message, cause) => console.error(message, cause),
  async admitBody(c) {
    const { snapshot } = await entrance(c)
    await identify(c, snapshot)
    return largestBodies(snapshot).json
  },
  async checkKey(c) {
    const { snapshot } = await entrance(c)
    return checkKey(c, snapshot)
  },
})
