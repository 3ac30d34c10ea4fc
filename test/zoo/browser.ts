/** A real Chromium with a page of another origin, in which the OpenAI package runs. */
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import process from 'node:process'
import { build } from 'esbuild'
import { chromium, type Browser as PlaywrightBrowser, type Page } from 'playwright-core'
import type { Ask, Door, Said } from './client.ts'
import type { OpenAISurface, sayOpenAI } from './openai.ts'

const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

/** Why there is no Chromium here; null where there is. */
export const chromiumMissing = (): string | null =>
  existsSync(CHROMIUM) ? null : `there is no ${CHROMIUM}; set CHROMIUM to one`

/** Inside of it, what may run has been chosen by the test: it needs no sandbox of its own. */
export const launchChromium = (): Promise<PlaywrightBrowser> =>
  chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })

/** A browser opens six connections to one host for each of its profiles: so many of them share the work. */
const PROFILES = 4

export interface Browser {
  /** Where the page comes from. */
  readonly origin: string
  say(surface: OpenAISurface, door: Door, ask: Ask): Promise<Said>
  /** What a bare `fetch` of the page comes to: a status, or the name of what it throws. */
  fetch(url: string): Promise<number | string>
  /** Paths that were asked about with OPTIONS before anything was sent there. */
  preflights(): ReadonlySet<string>
  stop(): Promise<void>
}

export async function startBrowser(): Promise<Browser> {
  await using started = new AsyncDisposableStack()
  const site = await servePage(await bundled())
  started.defer(site.stop)
  const browser = await launchChromium()
  started.defer(() => browser.close())

  const preflights = new Set<string>()
  const pages: Page[] = []
  for (let profile = 0; profile < PROFILES; profile++) {
    const context = await browser.newContext()
    const page = await context.newPage()
    const inspector = await context.newCDPSession(page)
    await inspector.send('Network.enable')
    inspector.on('Network.requestWillBeSent', ({ request }) => {
      if (request.method === 'OPTIONS') preflights.add(new URL(request.url).pathname)
    })
    await page.goto(site.origin)
    pages.push(page)
  }

  let turn = 0
  const all = started.move()
  return {
    origin: site.origin,
    say: (surface, door, ask) =>
      pages[turn++ % PROFILES]!.evaluate(
        ([part, at, asked]) => (globalThis as unknown as InPage).sayOpenAI(part, at, asked),
        [surface, door, ask] as const,
      ),
    fetch: (url) =>
      pages[0]!.evaluate(
        (at) =>
          fetch(at).then(
            ({ status }) => status,
            (error: Error) => error.name,
          ),
        url,
      ),
    preflights: () => preflights,
    stop: () => all.disposeAsync(),
  }
}

interface InPage {
  readonly sayOpenAI: typeof sayOpenAI
}

async function bundled(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, 'browser-page.ts')],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    logLevel: 'error',
  })
  return outputFiles[0]!.text
}

async function servePage(script: string) {
  const page =
    '<!doctype html><meta charset="utf-8"><title>zoo</title><script src="/zoo.js"></script>'
  const server = createServer(({ url }, response) => {
    const isScript = url === '/zoo.js'
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html')
    response.end(isScript ? script : page)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}
