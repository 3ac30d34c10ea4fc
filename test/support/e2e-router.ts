/** The router by itself, for what the whole stack cannot show: no fleet yet, storage that stays. */
import { bundleRouter, startRouter, type Router } from '../../scripts/local/router.ts'

export const BARE_ADMIN_TOKEN = 'operator-for-tests'

let bundle: Promise<string> | undefined
/** Once per test file's process: most routers here are started more than once. */
const bundled = () => (bundle ??= bundleRouter())

/**
 * @param storage directory of the objects' storage; null: forgotten at the end
 * @param secrets of the Worker, beside or in place of the usual ones
 */
export const startBareRouter = async (
  storage: string | null = null,
  secrets: Readonly<Record<string, string>> = {},
): Promise<Router> =>
  startRouter({
    host: '127.0.0.1',
    port: 0,
    storage,
    code: await bundled(),
    secrets: {
      ADMIN_TOKEN: BARE_ADMIN_TOKEN,
      KEY_SIGNING_SECRET: 'a-signing-secret-for-tests',
      ...secrets,
    },
  })
