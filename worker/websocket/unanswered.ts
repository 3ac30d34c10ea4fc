import type { Frame } from './wire.ts'

/**
 * What was sent to one side since it was last heard. The runtime takes whatever is sent and keeps it
 * for a slow reader without a limit, and does not say how much that is (it has no `bufferedAmount`). A
 * side that reads says something now and then; one that takes this much in silence is given up.
 */
export class Unanswered {
  readonly #most: number
  #sent = 0

  /** @param most bytes that may go out in a row */
  constructor(most: number) {
    this.#most = most
  }

  /** Counts a frame. @returns false when it is one too many */
  sent(frame: Frame): boolean {
    this.#sent += sizeOf(frame)
    return this.#sent <= this.#most
  }

  heard(): void {
    this.#sent = 0
  }
}

/** About how many bytes a frame has: of text, those beyond ASCII count as one each. */
export const sizeOf = (frame: Frame): number =>
  typeof frame === 'string' ? frame.length : frame.byteLength
