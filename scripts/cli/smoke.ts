/** `penstock smoke`: what a deployed router must do, tried from outside, as a tenant's program would. */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { callAdmin, placeOf, tokenFor } from './admin-api.ts'
import { grouped } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked, type Networked } from './fleet.ts'
import { paint, print, printJson } from './output.ts'
import { withProgress } from './progress.ts'
import { runChecks, type Report } from './smoke-checks.ts'
import { BOUNDS, sender, type Bounds } from './smoke-client.ts'
import type { Verdict } from './smoke-judge.ts'
import type { Check } from './smoke-run.ts'

interface Options extends Networked {
  readonly key?: string
  readonly model?: string
  readonly quick?: boolean
}

async function smoke(options: Options, bounds: Bounds): Promise<void> {
  const { json = false, quick = false, model = null } = options
  const place = placeOf(options.url, 'the key')
  const url = place.url.href.replace(/\/+$/, '')
  const key = options.key ?? (process.env['PENSTOCK_KEY'] || place.local.apiKey)
  if (!key) throw new Failure(EXIT.invalid, 'which key? give --key or set PENSTOCK_KEY')
  const now = () => performance.now()
  let doing = ''
  const listener = {
    begins: (name: string) => void (doing = name),
    ends: (check: Check) => {
      if (json) return
      if (process.stderr.isTTY) process.stderr.write('\r\u001B[K') // the line of what is being done
      print(lineOf(check))
    },
  }
  const plan = {
    send: sender(url, now, bounds),
    key,
    model,
    quick,
    now,
    random: Math.random,
    sleep: (ms: number, signal?: AbortSignal) =>
      delay(ms, undefined, signal && { signal }).catch(() => undefined),
    inFlight: tokenFor(place) === undefined ? null : () => inFlightAt(options.url),
  }
  const running = runChecks(plan, listener).catch((cause: unknown) => {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new Failure(EXIT.unreachable, `cannot reach ${new URL(url).origin}: ${code ?? message}`)
  })
  const report = await withProgress((seconds) => `${doing} … ${seconds} s`, running)
  if (json)
    printJson({ url, model: report.model, checks: report.checks.map(flat), tokens: report.tokens })
  else print(summary(report))
  if (report.checks.some(({ verdict }) => verdict.result === 'failed')) {
    process.exitCode = EXIT.invalid
  }
}

async function inFlightAt(url: string | undefined): Promise<number> {
  const { pools } = await callAdmin<{ pools: readonly PoolStatus[] }>(url, ['pools'])
  const instances = pools.flatMap((pool) => pool.instances)
  return instances.reduce((sum, instance) => sum + instance.inFlight, 0)
}

const COLOURS: Readonly<Record<Verdict['result'], (text: string) => string>> = {
  ok: paint.green,
  failed: paint.red,
  'not shown': paint.yellow,
}

const NAME_WIDTH = 'user agent: OpenAI, JavaScript'.length

const lineOf = ({ name, verdict: { result, why } }: Check): string =>
  `${COLOURS[result](result.padEnd('not shown'.length))}  ${name.padEnd(NAME_WIDTH)}  ${why}`

const flat = ({ name, verdict }: Check) => ({ check: name, ...verdict })

function summary({ model, checks, tokens }: Report): string {
  const count = (result: Verdict['result']) =>
    checks.filter(({ verdict }) => verdict.result === result).length
  const spent = `${grouped(tokens.prompt)} prompt and ${grouped(tokens.completion)} completion tokens`
  return [
    '',
    `${count('ok')} ok, ${count('failed')} failed, ${count('not shown')} not shown`,
    ...(model === null ? [] : [`spent about ${spent} of ${model}`]),
  ].join('\n')
}

/**
 * `smoke`
 * @param bounds after which a question is given up
 */
export function addSmokeCommand(program: Command, bounds: Bounds = BOUNDS): void {
  networked(program.command('smoke'))
    .summary('try a deployed router from outside')
    .description(
      "try a deployed router from outside, as a tenant's program would: firewall, streaming, aborted requests, long answers; takes about 15 minutes, and tokens",
    )
    .option('--key <key>', 'API key of a tenant; without it, PENSTOCK_KEY or that of the local run')
    .option('--model <name>', 'the model to ask; without it, the first that the key may use')
    .option(
      '--quick',
      'leave out the two checks that take minutes: 130 s of silence, ten-minute stream',
    )
    .addHelpText(
      'after',
      `
Prints a line for each check: ok, failed, or "not shown" (nothing is wrong as
far as one can see, but it could not be proven). Exits with 1 where a check
failed, with 5 where nothing answers.`,
    )
    .action((options: Options) => smoke(options, bounds))
}
