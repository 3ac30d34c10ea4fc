import type { Json } from '../../worker/json.ts'
import { askedOf, type Asked, type Circumstances } from '../../worker/routing/asked.ts'

interface Said extends Partial<Omit<Circumstances, 'headers' | 'plan'>> {
  readonly body?: Json
  readonly model?: string | null
  readonly stream?: boolean
  readonly user?: string | null
  readonly headers?: Record<string, string>
  readonly plan?: string | null
}

/** What a request asks for: of tenant `acme`, for no model, unless said otherwise. */
export function asked(said: Said = {}): Asked {
  const { body = {}, model = null, stream = false, user = null, plan = null, ...rest } = said
  const who = { host: '', prefix: '', tenant: 'acme', keyId: 'k', now: 0 }
  return askedOf(
    { body, model, stream, user },
    { ...who, ...rest, plan: () => plan, headers: new Headers(said.headers) },
  )
}
