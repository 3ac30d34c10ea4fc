import type { Filter } from './types.ts'

/** Its last readings were good: not starting, draining, down, or serving another model. */
export const ready: Filter = { name: 'ready', keeps: ({ state }) => state === 'ready' }

/** It has not failed this very request before. */
export const untried: Filter = {
  name: 'untried',
  keeps: ({ id }, { avoid }) => !avoid.includes(id),
}

/** It is not kept for the time when nobody else can take a request. */
export const ordinary: Filter = { name: 'ordinary', keeps: ({ lastResort }) => !lastResort }

/** It has a slot to give. The one promise that no policy may trade away. */
export const freeSlot: Filter = {
  name: 'free-slot',
  keeps: ({ inFlight, slots }) => inFlight < slots,
}
