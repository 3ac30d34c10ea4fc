import type { Command } from 'commander'
import type { ModelStatus, Rollout } from '../../durable-objects/fleet/contract.ts'
import { parseDuration } from '../../durable-objects/fleet/units.ts'
import { callAdmin } from './admin-api.ts'
import { EXIT, Failure } from './failure.ts'
import { networked, type Networked } from './fleet.ts'
import { armsTable, changesTable, rolloutSentence, rolloutSentences } from './models.ts'
import { paint, print, printJson } from './output.ts'

const WORDS: ReadonlySet<string> = new Set(['pause', 'resume', 'abort', 'end'])
const USUAL_EVERY = '10m'

interface RolloutOptions extends Networked {
  readonly every?: string
  readonly message?: string
}

async function rollout(
  model: string | undefined,
  arm: string | undefined,
  what: readonly string[],
  options: RolloutOptions,
): Promise<void> {
  if (model === undefined) return showAll(options)
  if (arm === undefined) return showOne(model, options)
  const { url, json, message } = options
  const body = { ...orderOf(arm, what, options), ...(message !== undefined && { message }) }
  const path = ['models', model, 'arms', arm, 'rollout']
  const answer = await callAdmin<{ rollout: Rollout | null }>(url, path, { method: 'POST', body })
  if (json) return printJson(answer)
  return print(
    answer.rollout === null
      ? `${model}: ${arm} has its weight in the file again`
      : rolloutSentence(answer.rollout, Date.now()),
  )
}

/** @throws Failure where the words make no order */
function orderOf(arm: string, what: readonly string[], { every }: RolloutOptions): object {
  const [first, second] = what
  if (first === undefined) {
    throw new Failure(
      EXIT.invalid,
      `what of ${arm}? give its shares, such as 1% 5% 25% 100%, or one of ${[...WORDS].join(', ')}`,
    )
  }
  if (WORDS.has(first)) {
    if (second !== undefined) throw new Failure(EXIT.invalid, `${first} stands alone`)
    if (every !== undefined)
      throw new Failure(EXIT.invalid, `--every goes with shares, not ${first}`)
    return { order: first }
  }
  const parsed = parseDuration(every ?? USUAL_EVERY)
  if (!parsed.ok) throw new Failure(EXIT.invalid, `--every: ${parsed.message}`)
  return { order: 'start', steps: what.map(shareIn), every_ms: parsed.value }
}

/** `5%`, `0.5%`, `5`. */
function shareIn(text: string): number {
  const digits = /^(\d+(?:\.\d+)?) ?%?$/.exec(text)?.[1]
  if (digits !== undefined && Number(digits) <= 100) return Number(digits)
  throw new Failure(EXIT.invalid, `${text} is no share: write percent, such as 5%, up to 100%`)
}

async function showAll({ url, json }: RolloutOptions): Promise<void> {
  const answer = await callAdmin<{ models: readonly ModelStatus[] }>(url, ['models'])
  if (json) return printJson(answer)
  if (answer.models.length === 0) return print('there is no model; apply a fleet file first')
  return show(answer.models)
}

async function showOne(name: string, { url, json }: RolloutOptions): Promise<void> {
  const model = await callAdmin<ModelStatus>(url, ['models', name])
  if (json) return printJson(model)
  show([model])
  const { changes = [] } = model
  if (changes.length > 0) print(`\n${changesTable(changes)}`)
}

function show(models: readonly ModelStatus[]): void {
  print(armsTable(models))
  for (const sentence of rolloutSentences(models, Date.now())) print(paint.dim(sentence))
}

/** The command `rollout`. */
export function addRolloutCommand(program: Command): void {
  networked(program.command('rollout'))
    .summary("raise an arm's share step by step, or show how it is doing")
    .description(
      "raise the share of a model's arm (one of the pools that serve it) step by step, or change a rollout that runs; with a model alone, show its arms, with nothing, all models",
    )
    .argument('[model]', 'name of the model, as tenants call it')
    .argument('[arm]', 'name of its arm; penstock rollout <model> lists them')
    .argument('[what...]', `shares, such as 1% 5% 25% 100%, or one of ${[...WORDS].join(', ')}`)
    .option(
      '--every <duration>',
      `time from one share to the next, e.g. 30m; without it, ${USUAL_EVERY}`,
    )
    .option('--message <text>', 'why; shown to other operators')
    .addHelpText(
      'after',
      `
  penstock rollout qwen canary 1% 5% 25%   the first now, then one each --every
  penstock rollout qwen canary pause       keeps the share as it is
  penstock rollout qwen canary resume      goes on where it stood
  penstock rollout qwen canary abort       sends the arm nothing more
  penstock rollout qwen canary end         the fleet file's weights hold again`,
    )
    .action(rollout)
}
