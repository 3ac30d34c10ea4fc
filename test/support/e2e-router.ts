/** The router by itself, for what the whole stack cannot show: no fleet yet, storage that stays. */
import { bundleRouter, startRouter, type Router } from '../../scripts/local/router.ts'

export const BARE_ADMIN_TOKEN = 'operator-for-tests'

/** @param storage directory of the objects' storage; null: forgotten at the end */
export const startBareRouter = async (storage: string | null = null): Promise<Router> =>
  startRouter({
    host: '127.0.0.1',
    port: 0,
    storage,
    code: await bundleRouter(),
    secrets: {
      ADMIN_TOKEN: BARE_ADMIN_TOKEN,
      KEY_SIGNING_SECRET: 'a-signing-secret-for-tests',
    },
  })
