/** `node scripts/sim/cli.ts --model NAME --port P`: one simulated vLLM instance in its own process. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { MODEL_KINDS, type ModelKind } from './endpoints.ts'
import { startSim } from './server.ts'

const number = (text: string): number => {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('not a number')
  return value
}

interface Flags {
  readonly model: string
  readonly host: string
  readonly port: number
  readonly controlPort?: number
  readonly maxNumSeqs?: number
  readonly maxModelLen?: number
  readonly kvBlocks?: number
  readonly ttftMs?: number
  readonly prefillMs?: number
  readonly itlMs?: number
  readonly instant?: boolean
  readonly timeScale?: number
  readonly apiKey?: string
  readonly seed?: number
  readonly loraModules?: readonly string[]
  readonly kind?: ModelKind
  readonly reasoning?: boolean
  readonly promptTokensDetails?: boolean
  readonly sseKeepAliveMs?: number
}

const flags = new Command('sim')
  .description('A vLLM server that needs no GPU.')
  .requiredOption('--model <name>', 'served model name')
  .option('--host <address>', 'address to listen on', '127.0.0.1')
  .option('--port <port>', 'port; 0 takes a free one', number, 8000)
  .option('--control-port <port>', 'control port, loopback only; 0 takes a free one', number)
  .option('--max-num-seqs <n>', 'sequences that run at once', number)
  .option('--max-model-len <tokens>', 'tokens of prompt and answer together', number)
  .option('--kv-blocks <n>', 'KV blocks of 16 tokens', number)
  .option('--ttft-ms <ms>', 'time to first token of a cached prompt', number)
  .option('--prefill-ms <ms>', 'prefill time per uncached prompt token', number)
  .option('--itl-ms <ms>', 'time between tokens of a request that runs alone', number)
  .option('--instant', 'no delay at all')
  .option('--time-scale <x>', 'simulated seconds per real second', number)
  .option('--api-key <key>', 'bearer key to ask for')
  .option('--seed <n>', 'seed for requests without one', number)
  .option('--lora-modules <name...>', 'LoRA adapters of the model')
  .addOption(new Option('--kind <kind>', 'what the model can do').choices(MODEL_KINDS))
  .option('--reasoning', 'the model reasons unless told not to')
  .option('--prompt-tokens-details', 'usage says how many prompt tokens were cached')
  .option('--sse-keep-alive-ms <ms>', 'silence after which a stream says a comment', number)
  .parse()
  .opts<Flags>()

const { ttftMs, prefillMs, itlMs, instant, controlPort, ...rest } = flags

try {
  const sim = await startSim({
    ...rest,
    controlPort: controlPort ?? null,
    profile:
      instant === true
        ? 'instant'
        : {
            ...(ttftMs === undefined ? {} : { ttftBaseMs: ttftMs }),
            ...(prefillMs === undefined ? {} : { prefillMsPerToken: prefillMs }),
            ...(itlMs === undefined ? {} : { itlBaseMs: itlMs }),
          },
  })
  const control = sim.controlUrl === null ? '' : `, control on ${sim.controlUrl}`
  console.log(`${flags.model} on ${sim.url}${control}`)
  const stop = async (): Promise<void> => {
    // As vLLM does without a drain time: what runs ends at once with finish_reason "abort".
    sim.abortAll()
    await new Promise((resolve) => setTimeout(resolve, 20))
    await sim.close()
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      stop().then(
        () => process.exit(0),
        () => process.exit(1),
      )
    })
  }
} catch (error) {
  console.error(`sim: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}
