import { cloudflareTest } from '@cloudflare/vitest-plugin'
import { defineConfig } from 'vitest/config'

/** For what hangs, in milliseconds; a busy machine is no fault of what is tested. */
const PATIENCE_MS = 60_000

/** `npm test`: pure logic in Node, objects in workerd, the whole path over real sockets. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: PATIENCE_MS,
          hookTimeout: PATIENCE_MS,
          maxWorkers: '100%',
          // Pure logic: what one file does is nothing to another. Loading it once is half of the time.
          isolate: false,
          unstubGlobals: true,
          restoreMocks: true,
        },
      },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                KEY_SIGNING_SECRET: 'a signing secret for tests',
                ADMIN_TOKEN: 'operator',
              },
            },
          }),
        ],
        test: {
          name: 'workers',
          include: ['test/workers/**/*.test.ts'],
          testTimeout: PATIENCE_MS,
          hookTimeout: PATIENCE_MS,
          maxWorkers: '100%',
        },
      },
      {
        test: {
          name: 'e2e',
          globalSetup: './test/support/e2e-setup.ts',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: PATIENCE_MS,
          hookTimeout: PATIENCE_MS,
          // Each file starts Nginx, workerd and simulators of its own, and waits for most of its time.
          maxWorkers: 4,
          // What is loaded to ask is the same for all; what is asked is each file's own.
          isolate: false,
          // After the others, which leave no processor idle.
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
