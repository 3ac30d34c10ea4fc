/** One newline: some SDKs take an empty line after a comment for the end of an event without data (L24). */
const PING = new TextEncoder().encode(': ping\n')

/** Hops on the way end a silent answer after 60 to 120 s; a comment this often is enough for all. */
const LONGEST_PAUSE_MS = 15_000
const SHORTEST_PAUSE_MS = 100

/** Writes a comment at once and then in a steady rhythm, until it is stopped. */
export class KeepAlive {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>
  readonly #timer: ReturnType<typeof setInterval>
  #writing: Promise<void> | null = null

  /** @param everyMs the pause between two comments, kept between 0.1 and 15 s */
  constructor(tenant: WritableStream<Uint8Array>, everyMs: number) {
    this.#writer = tenant.getWriter()
    this.#ping()
    const pauseMs = Math.max(SHORTEST_PAUSE_MS, Math.min(everyMs, LONGEST_PAUSE_MS))
    this.#timer = setInterval(() => this.#ping(), pauseMs)
  }

  /** Resolves when the stream is free for its next writer. Never rejects. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#writing
    this.#writer.releaseLock()
  }

  /** A reader who has not taken the last one yet needs no other. */
  #ping(): void {
    this.#writing ??= this.#writer.write(PING).then(
      () => this.#done(),
      () => this.#done(),
    )
  }

  #done(): void {
    this.#writing = null
  }
}
