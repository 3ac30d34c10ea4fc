interface Job {
  /** Its place: who has a lower one goes first. */
  readonly place: number
  readonly start: () => Promise<void>
}

interface Queue {
  /** Its work can wait: at most one lane is for it, and none while there is nothing to do. */
  readonly patient: boolean
  readonly jobs: Job[]
  busy: number
  /** Jobs that have come so far. */
  come: number
}

/**
 * So many at once. One lane is kept for each kind of work, so that what is slow never holds up the rest;
 * the others are for whoever comes.
 */
export class Lanes<Kind extends string> {
  readonly #count: number
  readonly #queues: ReadonlyMap<Kind, Queue>

  /**
   * @param count of lanes; not fewer than kinds
   * @param kinds of work; a lane that is free goes to the first of them that has some waiting
   * @param patient those of them that can wait: they have one lane at most, and it is kept only while they wait
   */
  constructor(count: number, kinds: readonly Kind[], patient: readonly Kind[] = []) {
    this.#count = count
    const queueOf = (kind: Kind): Queue => ({
      jobs: [],
      busy: 0,
      come: 0,
      patient: patient.includes(kind),
    })
    this.#queues = new Map(kinds.map((kind) => [kind, queueOf(kind)]))
  }

  /**
   * @param letsPass how many of its kind that come later may go before it: none unless said
   * @returns what the work yields, or how it fails: that is its caller's alone, and the lane goes on
   */
  run<T>(kind: Kind, work: () => Promise<T>, letsPass = 0): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const start = async (): Promise<void> => {
      try {
        resolve(await work())
      } catch (cause) {
        reject(cause)
      }
    }
    const queue = this.#queues.get(kind)
    if (!queue) throw new RangeError(`no lanes for ${kind}`)
    const place = queue.come++ + letsPass
    const at = queue.jobs.findLastIndex((job) => job.place < place) + 1
    queue.jobs.splice(at, 0, { place, start })
    this.#fill()
    return promise
  }

  #fill(): void {
    for (const queue of this.#queues.values()) {
      while (this.#isOpenTo(queue)) {
        const job = queue.jobs.shift()
        if (!job) break
        void this.#drive(queue, job)
      }
    }
  }

  #isOpenTo(queue: Queue): boolean {
    if (queue.patient && queue.busy > 0) return false
    let taken = 0
    for (const other of this.#queues.values())
      taken += other === queue ? other.busy : Math.max(keptFor(other), other.busy)
    return taken < this.#count
  }

  async #drive(queue: Queue, { start }: Job): Promise<void> {
    queue.busy++
    await start()
    queue.busy--
    this.#fill()
  }
}

const keptFor = ({ patient, jobs }: Queue): number => (patient && jobs.length === 0 ? 0 : 1)
