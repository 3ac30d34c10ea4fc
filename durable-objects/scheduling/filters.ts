import { slotsInEffect } from './effect.ts'
import type { Filter } from './types.ts'

/** Its last readings were good: not starting, suspect, draining, ejected, down, or serving another model. */
export const ready: Filter = { name: 'ready', keeps: ({ state }) => state === 'ready' }

/** It lists the adapter that is asked for. One that has not said what it lists may be asked. */
export const servesAdapter: Filter = {
  name: 'serves-adapter',
  keeps: ({ models = [] }, { adapter = null }) =>
    adapter === null || models.length === 0 || models.includes(adapter),
}

/** Prompt and answer fit into its context. One that has not said how long that is may be asked. */
export const fitsContext: Filter = {
  name: 'fits-context',
  keeps: ({ maxModelLen }, { contextTokens }) =>
    maxModelLen === null || contextTokens <= maxModelLen,
}

/** It has not failed this very request before. */
export const untried: Filter = {
  name: 'untried',
  keeps: ({ id }, { avoid }) => !avoid.includes(id),
}

/** It has a slot to give. The one promise that no policy may trade away. */
export const freeSlot: Filter = {
  name: 'free-slot',
  keeps: (candidate) => candidate.inFlight < slotsInEffect(candidate),
}

/** It is not kept for the time when nobody else can take a request. */
export const ordinary: Filter = { name: 'ordinary', keeps: ({ lastResort }) => !lastResort }
