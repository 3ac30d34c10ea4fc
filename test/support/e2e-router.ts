/** The router by itself, for what the whole stack cannot show: no fleet yet, storage that stays. */
import { startRouter, type Router } from '../../scripts/local/router.ts'
import { builtWorker } from './e2e-setup.ts'

export const BARE_ADMIN_TOKEN = 'operator-for-tests'

/**
 * @param storage directory of the objects' storage; null: forgotten at the end
 * @param secrets of the Worker, beside or in place of the usual ones
 * @param code    its bundle; this tree's without
 */
export const startBareRouter = async (
  storage: string | null = null,
  secrets: Readonly<Record<string, string>> = {},
  code?: string,
): Promise<Router> =>
  startRouter({
    host: '127.0.0.1',
    port: 0,
    storage,
    ...(await builtWorker()),
    ...(code !== undefined && { code }),
    secrets: {
      ADMIN_TOKEN: BARE_ADMIN_TOKEN,
      KEY_SIGNING_SECRET: 'a-signing-secret-for-tests',
      ...secrets,
    },
  })
