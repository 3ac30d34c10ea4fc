/** Reads YAML while remembering where each value stands, so that a problem can name its line. */
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument, visit } from 'yaml'
import type { Document, Node, ScalarTag } from 'yaml'
import { GROUPED } from './units.ts'

/** From the root of the file to a value: keys, and positions in lists. */
export type Path = readonly (string | number)[]

/** One mistake in a file. */
export interface Problem {
  /** `pools.qwen.timeouts.first_byte`; empty when it is about the whole file. */
  readonly path: string
  /** From 1. */
  readonly line: number
  /** From 1. */
  readonly column: number
  /** What is wrong and what would be right, in a sentence. */
  readonly message: string
}

export interface Source {
  readonly data: unknown
  /** Makes a problem that points at a value, or with `key` at its key. */
  problem(path: Path, message: string, at?: 'key' | 'value'): Problem
}

/** Digits in groups, read as the number they are. */
const grouped: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  test: GROUPED,
  resolve: (text) => Number(text.replaceAll('_', '')),
}

const NO_WORD = 'a key must be a plain word'

const SENTENCES: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key is written twice in the same map; keep one of them',
  TAB_AS_INDENT: 'indent with spaces: YAML does not allow tabs',
  MULTIPLE_DOCS: 'a fleet file is one YAML document; remove the --- separator',
  TAG_RESOLVE_FAILED: 'YAML tags (!name) are not used here; write a plain value',
  BAD_INDENT: 'the indentation does not fit: keys of one map stand in one column',
  NON_STRING_KEY: NO_WORD,
}

/** The library calls it bad indentation too where a flow collection has no end, or has it in too early a column. */
const UNCLOSED = /must be sufficiently indented and end with a ([\]}])/

function sentenceOf(code: string, message: string): string {
  const [, end] = UNCLOSED.exec(message) ?? []
  if (end !== undefined)
    return `a ${end === ']' ? '[' : '{'} before this is not closed: its ${end} is missing, or stands too far left`
  return SENTENCES[code] ?? `this is not YAML: ${message}`
}

const named = (part: string | number): string => {
  if (typeof part === 'number') return `[${part}]`
  return /^[A-Za-z0-9_-]+$/.test(part) ? `.${part}` : `.${JSON.stringify(part)}`
}

/** `pools.qwen.instances[0].port`. */
export const pathText = (path: Path): string => path.map(named).join('').replace(/^\./, '')

/** Offset of what `path` names; where nothing is written there, of its nearest parent's key. */
function offsetOf(document: Document, path: Path, at: 'key' | 'value'): number {
  let node: unknown = document.contents
  let offset = isScalar(node) || isMap(node) || isSeq(node) ? (node.range?.[0] ?? 0) : 0
  for (const [depth, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document)
    const pair = isMap(node)
      ? node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part))
      : undefined
    const child = isSeq(node) ? node.items[Number(part)] : pair?.value
    const key = pair?.key as Node | undefined
    const whole = child as Node | null | undefined
    if (key === undefined && whole === undefined) return offset
    const isLast = depth === path.length - 1
    const shown =
      isLast && at === 'value' && !isMap(child) && !isSeq(child) ? (whole ?? key) : (key ?? whole)
    offset = shown?.range?.[0] ?? offset
    node = child
  }
  return offset
}

/** The last of these JavaScript treats as its own. */
const ODD_KEYS: ReadonlyMap<unknown, string> = new Map([
  [
    '<<',
    'merge keys (<<) are not read here: write the fields out, or put what all pools have in common under defaults; an alias (*name) may stand for a whole value',
  ],
  ['', NO_WORD],
  ['~', NO_WORD],
  ['__proto__', NO_WORD],
])

interface Oddity {
  readonly offset: number
  readonly message: string
}

/** What is YAML and still not taken: some keys, and aliases of what does not stand before them. */
function oddities(document: Document): readonly Oddity[] {
  const found: Oddity[] = []
  const anchors = new Set<string>()
  visit(document, {
    Pair: (_, { key }) => {
      const message = isScalar(key) ? ODD_KEYS.get(key.value) : undefined
      if (message !== undefined) found.push({ offset: (key as Node).range?.[0] ?? 0, message })
    },
    Node: (_, node) => {
      if (isAlias(node)) {
        const { source, range } = node
        const message = `no value before this is called &${source}; an alias (*${source}) stands for one that is`
        if (!anchors.has(source)) found.push({ offset: range?.[0] ?? 0, message })
      } else if (node.anchor !== undefined) anchors.add(node.anchor)
    },
  })
  return found
}

/** Reads the text, or says everything that keeps it from being YAML. */
export function readSource(text: string): Source | readonly Problem[] {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false, // those quote the line, which may hold what should have been a secret
    customTags: (tags) => [grouped, ...tags],
    stringKeys: true, // 7 and "7" are one key, and 1.0 is not 1
  })
  const at = (offset: number, path: Path, message: string): Problem => {
    const { line, col } = lines.linePos(offset)
    return { path: pathText(path), line: Math.max(1, line), column: Math.max(1, col), message }
  }
  const broken = [
    ...[...document.errors, ...document.warnings].map(({ code, message, pos }) =>
      at(pos[0], [], sentenceOf(code, message)),
    ),
    ...oddities(document).map(({ offset, message }) => at(offset, [], message)),
  ]
  if (broken.length > 0) return broken.sort((a, b) => a.line - b.line || a.column - b.column)
  if (document.contents === null) {
    return [at(0, [], 'the file is empty; it needs at least pools and models')]
  }
  try {
    return {
      data: document.toJS() as unknown,
      problem: (path, message, where = 'value') =>
        at(offsetOf(document, path, where), path, message),
    }
  } catch (cause) {
    // Aliases that multiply without end.
    return [at(0, [], `the aliases (*name) cannot be resolved: ${(cause as Error).message}`)]
  }
}
