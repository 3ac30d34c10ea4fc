import { defineConfig } from 'vitest/config'

/** `npm run test:load`: minutes of load and aborts, one file after the other. */
export default defineConfig({
  test: {
    include: ['test/load/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 15 * 60_000,
    hookTimeout: 60_000,
  },
})
