/** The official OpenAI package in Chromium, in a page of another origin: nothing works without CORS. */
import process from 'node:process'
import { afterAll, expect, it } from 'vitest'
import { KINDS } from '../zoo/animal.ts'
import { chromiumMissing, startBrowser } from '../zoo/browser.ts'
import { zooOf } from '../zoo/suite.ts'

const { chat, completions, responses, embeddings, transcriptions } = KINDS
const PARTS = { chat, completions, responses, embeddings, transcriptions } as const

const missing = chromiumMissing()
const browser = missing === null ? await startBrowser() : null
afterAll(() => browser?.stop())

it(`Chromium is here, or left out: ${missing ?? 'it is here'}`, () => {
  expect(missing === null || process.env['CI'] !== 'true').toBe(true)
})

const zoo = zooOf(
  browser === null
    ? []
    : (Object.keys(PARTS) as (keyof typeof PARTS)[]).map((part) => ({
        ...PARTS[part],
        name: part,
        say: (door, ask) => browser.say(part, door, ask),
      })),
)

it('the browser asked for leave before each of them', () => {
  const paths = [
    'audio/transcriptions',
    'chat/completions',
    'completions',
    'embeddings',
    'responses',
  ]
  const asked = browser === null ? null : [...browser.preflights()].toSorted()
  expect(asked).toEqual(browser && paths.map((path) => `/v1/${path}`))
})

it('the browser lets a page read nothing of a server that says nothing of origins', async () => {
  const bare = async (path: (at: ReturnType<typeof zoo>) => string) =>
    browser === null ? null : browser.fetch(`${path(zoo())}/v1/models`)
  expect(await bare(({ stack }) => stack.url)).toBe(browser && 401)
  expect(await bare(({ stack }) => stack.sims['whole']!.url)).toBe(browser && 'TypeError')
})
