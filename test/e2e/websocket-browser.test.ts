/** What a page in a real browser can and cannot do: it sets no headers, and offers subprotocols instead. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import process from 'node:process'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startStack, type Stack } from '../support/stack.ts'
import { chromiumMissing, launchChromium } from '../zoo/browser.ts'

const missing = chromiumMissing()

let site: Server
let stack: Stack
let browser: Browser
let page: Page
let stranger: Page
beforeAll(async () => {
  if (missing !== null) return
  site = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<title>a page</title>')
  })
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve))
  const { port } = site.address() as AddressInfo
  const origin = `http://127.0.0.1:${port}`
  stack = await startStack({
    sims: [{ id: 'b1', pool: 'chat', options: { profile: 'instant' } }],
    fleet: {
      cors: { origins: [origin] },
      models: { chat: { arms: [{ pool: 'chat' }] } },
    },
  })
  browser = await launchChromium()
  page = await browser.newPage()
  await page.goto(origin)
  stranger = await browser.newPage()
  await stranger.goto(`http://localhost:${port}`) // the same page, by another origin
})
afterAll(async () => {
  await browser?.close()
  site?.close()
  await stack?.stop()
})

/** Opens a socket in the page, asks one thing and resolves with every frame; or with the code it closed with. */
const chatIn = (where: Page, protocols: readonly string[]) =>
  where.evaluate(
    ([url, offered]) =>
      new Promise<{ protocol: string; frames: string[] } | { closed: number }>((resolve) => {
        const socket = new WebSocket(url, [...offered])
        const frames: string[] = []
        socket.addEventListener('close', ({ code }) => resolve({ closed: code }))
        socket.addEventListener('open', () => {
          const body = { model: 'chat', messages: [{ role: 'user', content: 'hi' }], max_tokens: 4 }
          socket.send(JSON.stringify({ id: 1, body }))
        })
        socket.addEventListener('message', ({ data }) => {
          frames.push(String(data))
          if (String(data).includes('"done":true')) resolve({ protocol: socket.protocol, frames })
        })
      }),
    [stack.url.replace('http', 'ws') + '/v1/chat/completions', [...protocols]] as const,
  )

it(`Chromium is here, or left out: ${missing ?? 'it is here'}`, () => {
  expect(missing === null || process.env['CI'] !== 'true').toBe(true)
})

const pages = missing === null ? [{ what: 'a page in Chromium' }] : []
describe.each(pages)('$what', () => {
  const key = () => `openai-insecure-api-key.${stack.apiKey}`

  it('chats with its key beside another subprotocol', async () => {
    const said = await chatIn(page, ['realtime', key()])
    expect(said).toMatchObject({ protocol: 'realtime' })
    const frames = 'frames' in said ? said.frames : []
    expect(frames.length).toBeGreaterThan(2)
    expect(frames.at(-1)).toContain('"x-request-id":"req_')
  })

  it('must offer that other one, since the key is never said back', async () => {
    expect(await chatIn(page, [key()])).toEqual({ closed: 1006 })
  })

  it('gets in without a key nowhere, and from an origin that the fleet does not name neither', async () => {
    expect(await chatIn(page, [])).toEqual({ closed: 1006 })
    expect(await chatIn(stranger, ['realtime', key()])).toEqual({ closed: 1006 })
  })
})
