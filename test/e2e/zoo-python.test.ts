/** The official OpenAI package in Python, where `python3` has it; in CI it must. */
import process from 'node:process'
import { afterAll, expect, it } from 'vitest'
import { KINDS } from '../zoo/animal.ts'
import { pythonMissing, startPython } from '../zoo/python.ts'
import { zooOf } from '../zoo/suite.ts'

const { chat, completions, responses, embeddings, transcriptions } = KINDS
const PARTS = { chat, completions, responses, embeddings, transcriptions } as const

const missing = await pythonMissing()
const python = missing === null ? startPython() : null
afterAll(() => python?.stop())

it(`Python with openai is here, or left out: ${missing ?? 'it is here'}`, () => {
  // The CI script sets the second one where it tried to install the package and could not.
  const { CI, PYTHON_OUT_OF_REACH } = process.env
  expect(missing === null || CI !== 'true' || PYTHON_OUT_OF_REACH === '1').toBe(true)
})

zooOf(
  python === null
    ? []
    : (Object.keys(PARTS) as (keyof typeof PARTS)[]).map((part) => ({
        ...PARTS[part],
        name: part,
        say: (door, ask) => python.say(part, door, ask),
      })),
)
