/** What is said of models' arms: tables and sentences. */
import type {
  ArmChange,
  ArmStatus,
  ArmSummary,
  ModelStatus,
  Rollout,
} from '../../durable-objects/fleet/contract.ts'
import { callAdmin } from './admin-api.ts'
import { alignedRight, fitted, grouped } from './display.ts'
import { paint, table } from './output.ts'
import { isoSeconds } from './time.ts'

/** Every model's arms; none where the router does not know of them yet, or cannot say. */
export async function modelsIfKnown(url: string | undefined): Promise<readonly ModelStatus[]> {
  try {
    return (await callAdmin<{ models?: readonly ModelStatus[] }>(url, ['models'])).models ?? []
  } catch {
    return [] // said beside other things, which are worth having without it
  }
}

const HEAD = 'model,arm,share,file,state,requests,failed,cut,empty,TTFT p50,p95,token p95'.split(
  ',',
)
const NUMBERS = new Set([2, 3, 5, 6, 7, 8, 9, 10, 11])

const COLOURS: Readonly<Record<Rollout['state'], (text: string) => string>> = {
  running: paint.cyan,
  paused: paint.yellow,
  done: paint.green,
  aborted: paint.yellow,
  guarded: paint.red,
}

/** A line for each arm: its share, and how its requests went within the guard's window. */
export function armsTable(models: readonly ModelStatus[]): string {
  const lines = models.flatMap(({ model, arms, shadow }) => [
    ...arms.map((arm) => ({ cells: armRow(model, arm), state: arm.rollout?.state })),
    ...(shadow ? [{ cells: shadowRow(model, shadow), state: undefined }] : []),
  ])
  const { head, rows } = alignedRight(
    HEAD,
    lines.map(({ cells }) => cells),
    NUMBERS,
  )
  const [title = '', ...text] = table(head, rows).split('\n')
  const painted = text.map((line, i) => {
    const state = lines[i]?.state
    return state === undefined ? line : COLOURS[state](line)
  })
  return [title, ...painted].join('\n')
}

const armRow = (model: string, { name, share, fileWeight, rollout, figures }: ArmStatus) => [
  model,
  name,
  percent(share),
  String(fileWeight),
  rollout?.state ?? '-',
  ...figureCells(figures),
]

const shadowRow = (model: string, { share, figures }: NonNullable<ModelStatus['shadow']>) => [
  model,
  'shadow',
  percent(share * 100),
  '-',
  'copies',
  ...figureCells(figures),
]

const figureCells = (figures: ArmSummary | null): string[] =>
  figures === null
    ? Array.from({ length: 7 }, () => '-')
    : [
        grouped(figures.requests),
        grouped(figures.failed),
        grouped(figures.truncated),
        grouped(figures.empty),
        ...[figures.ttftP50, figures.ttftP95, figures.interTokenP95].map(duration),
      ]

/** What has changed in a model's shares, newest first. */
export function changesTable(changes: readonly ArmChange[]): string {
  const head = ['at', 'arm', 'what', 'share', 'by', 'why']
  const rows = changes.map(({ at, arm, event, share, by, why }) => [
    isoSeconds(at),
    arm,
    event,
    share === null ? 'file' : percent(share),
    by ?? '-',
    why ?? '',
  ])
  const [fittedHead = head, ...fittedRows] = fitted([head, ...rows], head.length - 1, 40)
  return table(fittedHead, fittedRows)
}

/**
 * A sentence for each rollout that holds.
 * @param now Unix milliseconds
 */
export const rolloutSentences = (models: readonly ModelStatus[], now: number): readonly string[] =>
  models.flatMap(({ arms }) =>
    arms.flatMap(({ rollout }) => (rollout ? [rolloutSentence(rollout, now)] : [])),
  )

/** `qwen: canary stays at 0 %: its guard turned it off 3 min ago: errors 12.0 % of 150 requests`. */
export function rolloutSentence(rollout: Rollout, now: number): string {
  const { model, arm, state, share, steps, nextAt, since, by, why } = rollout
  const ago = `${span(now - since)} ago`
  const because = why === null ? '' : `: ${why}`
  const whose = by ?? 'somebody'
  const at = `${model}: ${arm} ${state === 'running' ? 'is' : 'stays'} at ${percent(share)}`
  switch (state) {
    case 'running': {
      const next = steps.find((step) => step > share)
      if (next === undefined || nextAt === null) return at
      return `${at}; ${percent(next)} comes in ${span(nextAt - now)}`
    }
    case 'paused':
      return `${at}: paused by ${whose} ${ago}${because}`
    case 'done':
      return `${at}: it reached its last step ${ago}`
    case 'aborted':
      return `${at}: aborted by ${whose} ${ago}${because}`
    case 'guarded':
      return `${at}: its guard turned it off ${ago}${because}`
  }
}

/** `5 %`, `0.5 %`, `33.3 %` */
const percent = (share: number): string => `${Number(share.toFixed(share < 1 ? 2 : 1))} %`

const duration = (ms: number | null): string => {
  if (ms === null) return '-'
  if (ms < 10) return `${ms.toFixed(1)} ms`
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`
}

/** A length of time, roughly: `40 s`, `3 min`, `2 h`, `5 d`. */
function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 2 * 3_600) return `${Math.round(seconds / 60)} min`
  return seconds < 48 * 3_600
    ? `${Math.round(seconds / 3_600)} h`
    : `${Math.round(seconds / 86_400)} d`
}
