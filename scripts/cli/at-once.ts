/**
 * Does something for each item, a few at a time, begun in their order. The first failure ends it.
 * @param most at most so many at once
 */
export async function eachAtOnce<T>(
  items: Iterable<T> | AsyncIterable<T>,
  most: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>()
  for await (const item of items) {
    const one = work(item).finally(() => running.delete(one))
    running.add(one)
    if (running.size >= most) await Promise.race(running)
  }
  await Promise.all(running)
}
