/**
 * How likely it is that chance alone makes counts look as bad as they do. Exact, since failures are few:
 * with three failures in fifty requests the normal approximation is wrong by orders of magnitude.
 */

/** Of `bad` out of `all`. */
export interface Count {
  readonly bad: number
  readonly all: number
}

/**
 * That `own` has as many bad ones or more, were both of one kind: Fisher's exact test, one-sided.
 * Source: Fisher, "The logic of inductive inference" (1935); the hypergeometric distribution's upper tail.
 * @returns 0 to 1
 */
export function chanceAgainst(own: Count, others: Count): number {
  const bad = own.bad + others.bad
  const all = own.all + others.all
  const most = Math.min(own.all, bad)
  const first =
    logChoose(bad, own.bad) + logChoose(all - bad, own.all - own.bad) - logChoose(all, own.all)
  const ratio = (k: number) =>
    ((bad - k) * (own.all - k)) / ((k + 1) * (all - bad - own.all + k + 1))
  return tail(Math.exp(first), own.bad, most, ratio)
}

/**
 * That as many are bad or more where each is with this probability: the binomial distribution's upper tail.
 * @returns 0 to 1
 */
export function chanceAt({ bad, all }: Count, probability: number): number {
  const first =
    logChoose(all, bad) + bad * Math.log(probability) + (all - bad) * Math.log1p(-probability)
  const odds = probability / (1 - probability)
  return tail(Math.exp(first), bad, all, (k) => ((all - k) / (k + 1)) * odds)
}

/** Below this part of the sum a term adds nothing. */
const NEGLIGIBLE = 1e-12

/** Sums from one count upwards. @param ratio of the term after `k` to that of `k` */
function tail(first: number, from: number, to: number, ratio: (k: number) => number): number {
  let term = first
  let sum = first
  for (let k = from; k < to; k++) {
    const factor = ratio(k)
    term *= factor
    sum += term
    if (factor < 1 && term < sum * NEGLIGIBLE) break
  }
  return Math.min(1, sum)
}

const logChoose = (n: number, k: number): number =>
  logFactorial(n) - logFactorial(k) - logFactorial(n - k)

/** Stirling's series; the first few, where it is not exact enough, multiplied out. */
function logFactorial(n: number): number {
  if (n >= 16) {
    const x = n + 1
    return (
      (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * x) - 1 / (360 * x ** 3)
    )
  }
  let product = 1
  for (let i = 2; i <= n; i++) product *= i
  return Math.log(product)
}
