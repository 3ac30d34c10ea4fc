import { describe, expect, it } from 'vitest'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { Snapshots, type SnapshotSource } from '../../worker/routing/snapshots.ts'

const at = (version: number, revision?: number): Snapshot => ({
  version,
  ...(revision !== undefined && { revision }),
  models: {},
  pools: {},
  corsOrigins: [],
  receipts: true,
})

/** An isolate's copy, after these answers one after the other. */
async function after(...answers: readonly (Snapshot | null)[]) {
  const asked: [number, number][] = []
  let next = 0
  const source: SnapshotSource = {
    load: (version, revision) => {
      asked.push([version, revision])
      return Promise.resolve(answers[next++] ?? null)
    },
    now: () => 0,
    sleep: () => new Promise(() => {}),
    defer: () => {},
  }
  const snapshots = new Snapshots()
  for (const _ of answers) await snapshots.reload(source)
  const { version, revision } = snapshots.latest!
  return { held: [version, revision], asked }
}

describe("an isolate's copy of the fleet", () => {
  it('names its version and its revision, and takes a newer revision of the same version', async () => {
    expect(await after(at(3, 10), at(3, 11), null)).toEqual({
      held: [3, 11],
      asked: [
        [0, 0],
        [3, 10],
        [3, 11],
      ],
    })
  })

  it.each([
    ['an older revision', [at(3, 11), at(3, 10)], [3, 11]],
    ['an older version, however new its revision', [at(3, 11), at(2, 99)], [3, 11]],
    ['an object of the release before, with the same version', [at(3, 11), at(3)], [3, 11]],
  ] as const)('does not go back to %s', async (_, answers, held) => {
    expect((await after(...answers)).held).toEqual(held)
  })

  it.each([
    ['a newer version, whatever its revision', [at(3, 11), at(4, 2)], [4, 2]],
    ['one with revisions, from an object that had none', [at(3), at(3, 1)], [3, 1]],
  ] as const)('goes on to %s', async (_, answers, held) => {
    expect((await after(...answers)).held).toEqual(held)
  })
})
