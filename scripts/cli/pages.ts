import { callAdmin } from './admin-api.ts'

/** Most items that the router gives at once. */
const PAGE = 1_000

/**
 * Reads a list page by page, for as long as anybody wants more.
 * @param path  parts of the path below `/admin`
 * @param query the same for each page
 */
export async function* pagesOf<T extends { readonly next: string | null }>(
  url: string | undefined,
  path: readonly string[],
  query: Readonly<Record<string, string | number | undefined>>,
): AsyncGenerator<T> {
  let after: string | null = null
  do {
    const page: T = await callAdmin<T>(url, path, { query: { limit: PAGE, ...query, after } })
    yield page
    after = page.next
  } while (after !== null)
}
