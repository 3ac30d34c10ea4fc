/** Counts and histograms of one engine, in Prometheus' sense. Times are simulated seconds. */
export class Histogram {
  readonly bounds: readonly number[]
  readonly counts: number[]
  sum = 0
  count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = bounds.map(() => 0)
  }

  /** Records a value `times` times. */
  observe(value: number, times = 1): void {
    this.sum += value * times
    this.count += times
    const at = this.bounds.findIndex((bound) => value <= bound)
    if (at !== -1) this.counts[at] = (this.counts[at] ?? 0) + times
  }
}

const TTFT = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
]
const ITL = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
]
const LATENCY = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
]
const ITERATION = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]

/** 1, 2, 5, 10, 20, 50 … up to `most`: how vLLM buckets token counts. */
const oneTwoFive = (most: number): number[] =>
  Array.from({ length: 30 }, (_, i) => ([1, 2, 5][i % 3] ?? 1) * 10 ** Math.floor(i / 3)).filter(
    (bound) => bound <= most,
  )

export type FinishedReason = 'stop' | 'length' | 'abort' | 'error' | 'repetition'

/** What the engine counts; the page `/metrics` is written from it. */
export class EngineStats {
  promptTokens = 0
  cachedTokens = 0
  prefixQueries = 0
  prefixHits = 0
  generationTokens = 0
  readonly finished: Record<FinishedReason, number> = {
    stop: 0,
    length: 0,
    abort: 0,
    error: 0,
    repetition: 0,
  }
  readonly requestPromptTokens: Histogram
  readonly requestGenerationTokens: Histogram
  readonly iterationTokens = new Histogram(ITERATION)
  readonly maxGenerationTokens: Histogram
  readonly paramsN = new Histogram([1, 2, 5, 10, 20])
  readonly paramsMaxTokens: Histogram
  readonly ttft = new Histogram(TTFT)
  readonly interToken = new Histogram(ITL)
  readonly timePerOutputToken = new Histogram(ITL)
  readonly e2e = new Histogram(LATENCY)
  readonly queueTime = new Histogram(LATENCY)
  readonly inferenceTime = new Histogram(LATENCY)
  readonly prefillTime = new Histogram(LATENCY)
  readonly decodeTime = new Histogram(LATENCY)
  readonly preemptions = new Histogram([1, 2, 3, 4, 5, 10, 20])
  readonly prefillComputed: Histogram

  constructor(maxModelLen: number) {
    const tokens = (): Histogram => new Histogram(oneTwoFive(maxModelLen))
    this.requestPromptTokens = tokens()
    this.requestGenerationTokens = tokens()
    this.maxGenerationTokens = tokens()
    this.paramsMaxTokens = tokens()
    this.prefillComputed = tokens()
  }
}
