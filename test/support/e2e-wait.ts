/** Waits until a look at the world shows what it should; fails with what it shows instead. */
export async function eventually<T>(
  look: () => T | Promise<T>,
  isSo: (seen: T) => boolean,
  withinMs = 5_000,
): Promise<T> {
  const end = performance.now() + withinMs
  for (;;) {
    const seen = await look()
    if (isSo(seen)) return seen
    if (performance.now() > end) {
      throw new Error(`still not so after ${withinMs} ms: ${JSON.stringify(seen)}`)
    }
    await sleep(10)
  }
}

export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms))
