import { randomFillSync } from 'node:crypto'

const BYTES = 8

// Random bytes are cheap by the page and dear by the handful.
const page = Buffer.alloc(512 * BYTES)
let used = page.length

/** Sixteen random hex digits, as vLLM's ids have. */
export function hexId(): string {
  if (used === page.length) {
    randomFillSync(page)
    used = 0
  }
  used += BYTES
  return page.toString('hex', used - BYTES, used)
}
