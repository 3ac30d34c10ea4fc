/** What the page runs: the package is bundled with it. Types of the DOM are not needed. */
import { sayOpenAI } from './openai.ts'

Object.assign(globalThis, { sayOpenAI })
