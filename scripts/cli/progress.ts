import process from 'node:process'

/** How often the line is written anew, in milliseconds. */
const EVERY_MS = 100
const CLEAR = '\r\u001B[K'

/**
 * Shows a line on the terminal for as long as something takes; without a terminal, nothing.
 * @param line what to show, given the seconds so far
 */
export async function withProgress<T>(
  line: (seconds: number) => string,
  work: Promise<T>,
): Promise<T> {
  const { stderr } = process
  if (!stderr.isTTY) return work
  const began = Date.now()
  let isShown = false
  const show = () => {
    isShown = true
    const text = line(Math.floor((Date.now() - began) / 1000))
    stderr.write(CLEAR + text.slice(0, stderr.columns - 1)) // a line that wraps cannot be cleared
  }
  const timer = setInterval(show, EVERY_MS)
  try {
    return await work
  } finally {
    clearInterval(timer)
    if (isShown) stderr.write(CLEAR)
  }
}
