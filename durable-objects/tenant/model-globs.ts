import { isGlob, matchesModel } from '../fleet/model-glob.ts'

/** Lists of models that a plan, a tenant or a key names: `qwen`, `claude-*`, or `*` for all. */

/** Whether a model is among them. */
export type ModelTest = (model: string) => boolean

/** Lists are compiled once for as long as they live; a Worker gets a new copy of one with each answer. */
const compiled = new WeakMap<readonly string[], ModelTest>()

/**
 * Whether a list of names and globs lets a model through. In a glob, `*` stands for any text, none
 * included; everything else, case too, for itself.
 */
export function allowsModel(models: readonly string[], model: string): boolean {
  let test = compiled.get(models)
  if (!test) {
    test = compile(models)
    compiled.set(models, test)
  }
  return test(model)
}

/**
 * Names and globs of what both lists allow. What two globs have in common takes more globs than anybody has
 * room for when there are many stars in them: two globs with more than one `*` each way, neither of which is
 * within the other, are left out. It never says too much, and who decides asks both lists.
 * @example commonModels(['qwen', 'claude-*'], ['claude-3-*', 'gpt']) // ['claude-3-*']
 */
export function commonModels(a: readonly string[], b: readonly string[]): readonly string[] {
  const common = new Set<string>()
  for (const one of a) {
    for (const other of b) {
      // No name has a `*` in it, so one glob may stand for another: then it stands for all that one does.
      if (matchesModel(one, other)) common.add(other)
      else if (matchesModel(other, one)) common.add(one)
      else if (isSimple(one) && isSimple(other))
        for (const both of overlap(one, other)) common.add(both)
    }
  }
  return [...common]
}

function compile(models: readonly string[]): ModelTest {
  if (models.includes('*')) return () => true
  const names = new Set(models.filter((entry) => !isGlob(entry)))
  const globs = models.filter(isGlob)
  return (model) => names.has(model) || globs.some((glob) => matchesModel(glob, model))
}

/** There is one star in it. */
const isSimple = (glob: string): boolean => glob.split('*').length === 2

/** Globs that together stand for what two globs have in common; one may come up twice. */
function overlap(a: string, b: string): readonly string[] {
  if (a === '' && b === '') return ['']
  const [first, second] = [a.charAt(0), b.charAt(0)]
  // Two stars: one of them ends first, while the other goes on.
  if (first === '*' && second === '*') {
    return [...overlap(a.slice(1), b), ...overlap(a, b.slice(1))].map((rest) => `*${rest}`)
  }
  if (second === '*') return overlap(b, a)
  // The star ends here, or takes one more letter.
  if (first === '*') {
    const goesOn = second === '' ? [] : overlap(a, b.slice(1))
    return [...overlap(a.slice(1), b), ...goesOn.map((rest) => second + rest)]
  }
  return first === second ? overlap(a.slice(1), b.slice(1)).map((rest) => first + rest) : []
}
