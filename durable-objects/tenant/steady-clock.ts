/**
 * A clock that never goes back, made of one that may: after a jump back it goes on from where it was.
 * Else a limit's minute would stand still until the clock has caught up with itself.
 * @param now   Unix milliseconds
 * @param since where it goes on from, should the clock have gone back meanwhile; Unix milliseconds
 */
export function steadyClock(now: () => number, since = -Infinity): () => number {
  let ahead = 0
  let latest = since
  return () => {
    const time = now()
    if (time + ahead < latest) ahead = latest - time
    latest = time + ahead
    return latest
  }
}
