/**
 * What a checked `fleet.yaml` becomes: plain data with every default filled in, in milliseconds and
 * bytes, split by who needs it. The Worker holds a {@link Snapshot}; each pool object gets its own
 * {@link PoolConfig}. Both name the fleet version they came from. Secrets appear by name only.
 */

/** A header whose value is a Worker secret, read where the request is sent. */
export interface SecretHeader {
  readonly header: string
  /** Name of the Worker secret. */
  readonly secret: string
  /** Put before the secret's value, e.g. `Bearer `. */
  readonly prefix?: string
}

/** Everything needed to call one vLLM instance. */
export interface Target {
  readonly instance: string
  /** Prefix of every path: `https://gpu-a.example.com/i/qwen-1` through a site, or the instance's own URL. */
  readonly base: string
  /** The site whose Nginx stands in front; null when the instance is called directly by `url`. */
  readonly site: string | null
  readonly secrets: readonly SecretHeader[]
}

export interface InstanceConfig extends Target {
  /**
   * Which process this is: its address on the site, or its URL, and the model it must serve. Should
   * any of it change, it is another process, with no health and no requests yet.
   */
  readonly process: string
  /** Most requests in flight at once. */
  readonly slots: number
  readonly weight: number
  /** Used only when no other instance of the pool can answer. */
  readonly lastResort: boolean
  /** Where its site is, as a location hint; absent where the fleet does not say. */
  readonly region?: string | null
}

export type PolicyName =
  | 'round_robin'
  | 'weighted'
  | 'random'
  | 'p2c'
  | 'least_inflight'
  | 'ip_hash'
  | 'user_hash'
  | 'prefix'
  | 'tokens'
  | 'gpu'
  | 'latency'
  | 'locality'
  | 'adaptive'

/** What a pool may weigh by itself, in place of a policy's own weights. */
export type ScorerName =
  | 'inflight'
  | 'prefix'
  | 'tokens'
  | 'gpu'
  | 'latency'
  | 'locality'
  | 'errors'

/** When an instance whose requests fail is taken out, and for how long. */
export interface BreakerConfig {
  /** Failures older than this count no more. */
  readonly windowMs: number
  /** Requests within the window before a ratio means anything. */
  readonly minRequests: number
  /** Share of failures that opens it, 0 to 1. */
  readonly errorRatio: number
  /** Failures in a row that open it. */
  readonly consecutive: number
  /** The first sit-out; each further one is twice as long, up to `openMaxMs`. */
  readonly openMs: number
  readonly openMaxMs: number
  /** Requests let through after a sit-out; all must succeed. */
  readonly halfOpen: number
  /** Largest share of a pool that may be out by breakers, 0 to 1. */
  readonly maxEjected: number
}

export interface QueueConfig {
  /** Most requests that wait at once; 0: nobody waits. */
  readonly max: number
  readonly waitMs: number
}

export interface HealthConfig {
  readonly everyMs: number
  readonly timeoutMs: number
  /** Failed readings in a row until an instance is down. */
  readonly downAfter: number
  /** Good readings in a row until a down instance is ready again. */
  readonly upAfter: number
}

/** What one pool object needs to know. */
export interface PoolConfig {
  readonly version: number
  readonly pool: string
  /** The model name vLLM knows. */
  readonly servedAs: string
  readonly policy: PolicyName
  readonly health: HealthConfig
  readonly instances: readonly InstanceConfig[]
  /** Own weights in place of the policy's. Absent, like all that follow, from a configuration of the release before. */
  readonly scorers?: Readonly<Partial<Record<ScorerName, number>>> | null
  readonly breaker?: BreakerConfig
  readonly queue?: QueueConfig
  /** Time over which a returning instance's share grows to its whole weight; 0: at once. */
  readonly slowStartMs?: number
  /** Names of LoRA adapters that arms ask for. */
  readonly adapters?: readonly string[]
  /** Models whose arms are compared: the fleet object is told how their requests went here. */
  readonly compared?: readonly string[]
}

export interface Timeouts {
  /** From sending the request to the first data frame. */
  readonly firstByteMs: number
  /** Between two data frames; comments do not count. */
  readonly idleMs: number
  /** The whole request, every attempt included. */
  readonly totalMs: number
}

/** The most that one request may ask of a pool. */
export interface Limits {
  /** Request body, in bytes. */
  readonly bodyBytes: number
  /** Request body with an audio file, in bytes. */
  readonly audioBytes: number
  /** Answers to one request: `n`, `best_of`. */
  readonly n: number
  readonly outputTokens: number
}

/** What media weigh beside text, in tokens; their bytes say nothing of that (L38). */
export interface MediaTokens {
  /** A picture. */
  readonly image: number
  /** A second of sound. */
  readonly audioSecond: number
}

/** What the Worker needs to know of a pool. */
export interface PoolRoute {
  readonly pool: string
  readonly servedAs: string
  readonly timeouts: Timeouts
  /** Instances tried for one request, the first included. */
  readonly attempts: number
  /** From the grant of a slot until a streaming tenant gets a status and keep-alive comments. */
  readonly earlyCommitMs: number
  readonly limits: Limits
  /** The same as `limits.bodyBytes`: Workers of the release before read it here. */
  readonly bodyBytes?: number
  /** Hosts that image, audio and video URLs may name: `example.com`, or `*.example.com` for every host below it. */
  readonly mediaDomains: readonly string[]
  /** Tokens that its model makes of media, for counting load. Absent from a snapshot of the release before. */
  readonly mediaTokens?: MediaTokens
  /** `both`: what vLLM calls `reasoning` is also sent as `reasoning_content`, the name it had before (L41). */
  readonly reasoningField: 'reasoning' | 'both'
  /** Where the pool's object should live (a Durable Object location hint); null: near its first caller. */
  readonly region: string | null
  /**
   * For when the pool's object is out of reach: then a Worker chooses by itself, under a low cap. Absent from
   * a snapshot of the release before.
   */
  readonly instances?: readonly StandbyTarget[]
}

/** What a Worker needs to know of an instance to choose it without the pool's object. */
export interface StandbyTarget extends Target {
  readonly slots: number
  readonly weight: number
  readonly lastResort: boolean
}

export interface Arm {
  /** `stable` for the first arm unless named, the pool's id for others. */
  readonly name: string
  readonly pool: string
  /** Share of the cohorts compared with the other arms: the file's, or what a rollout or a guard has made of it. */
  readonly weight: number
  /** The LoRA adapter that is asked for in place of the pool's own model; null or absent: none. */
  readonly adapter?: string | null
  /** A guard or an operator has sent everybody away: no conversation keeps it. Absent: nobody has. */
  readonly off?: true
}

/** Who stays on one arm together. */
export type Stickiness = 'tenant+user' | 'tenant' | 'session'

/**
 * When a rule holds: if all that is there does. Texts are exact, or a prefix with `*` at its end; of several,
 * one must fit.
 */
export interface RuleCondition {
  /** By header name, in lower case. */
  readonly headers?: Readonly<Record<string, readonly string[]>>
  readonly tenants?: readonly string[]
  readonly plans?: readonly string[]
  /** Ids of keys. */
  readonly keys?: readonly string[]
  /** The request's own word for its end user: `user`, `safety_identifier`, `metadata.user_id`. */
  readonly users?: readonly string[]
  readonly promptTokensOver?: number
  /** Whether it brings tools, pictures; whether it asks for a stream. */
  readonly tools?: boolean
  readonly images?: boolean
  readonly stream?: boolean
}

/** Where a rule leads. */
export type RuleLead =
  | { readonly kind: 'arm'; readonly arm: string }
  /** Weights by arm, in place of the model's own; an arm that is not named gets none. */
  | { readonly kind: 'arms'; readonly weights: Readonly<Record<string, number>> }
  /** Another model, by its own weights: its rules are not read. */
  | { readonly kind: 'model'; readonly model: string }

export interface Rule {
  readonly when: RuleCondition
  readonly lead: RuleLead
  /** It leads to arms alone that are off, and is passed over. Absent: it is not. */
  readonly off?: true
}

/** When an arm is turned off by itself. Null: that is not looked at. */
export interface Guard {
  readonly windowMs: number
  /** Of an arm's requests within the window, before anything is said of it. */
  readonly minRequests: number
  /** Share of requests that failed, were cut short or timed out, 0 to 1. */
  readonly errorRatioOver: number | null
  /** Share of answers that ended well and had nothing in them, 0 to 1. */
  readonly emptyRatioOver: number | null
  /** Times the other arms' 95th percentile. */
  readonly ttftP95Times: number | null
  readonly interTokenP95Times: number | null
}

/** A pool that gets copies of requests, and whose answers nobody reads. */
export interface Shadow {
  readonly pool: string
  /** 0 to 1. */
  readonly share: number
}

export interface ModelRoute {
  readonly name: string
  /** Unix seconds of the fleet version that first named the model; stable from then on. */
  readonly created: number
  /** Further names, and globs: `claude-*`. */
  readonly aliases: readonly string[]
  /** URL prefix under which every endpoint means this model, e.g. `/qwen`. */
  readonly path: string | null
  readonly arms: readonly Arm[]
  /** Models tried, in this order, when nothing here can answer. */
  readonly fallback: readonly string[]
  /** Host names that mean this model, in lower case. Absent from a snapshot of the release before, like all that follow. */
  readonly hosts?: readonly string[]
  readonly sticky?: Stickiness
  /** The first that holds decides, before the arms' weights. */
  readonly rules?: readonly Rule[]
  readonly guard?: Guard | null
  readonly shadow?: Shadow | null
  /** How long after its last request a conversation still keeps its arm, in milliseconds; 0: not at all. */
  readonly keepArmMs?: number
}

/** What a tenant gets for its money; by name in the fleet file. */
export interface Plan {
  readonly name: string
  /** Names or globs of models; `*` alone: all of them. */
  readonly models: readonly string[]
  readonly class: 'interactive' | 'standard' | 'batch'
  /** Null: no limit of this kind. */
  readonly rpm: number | null
  readonly tpm: number | null
  readonly concurrency: number | null
  readonly tokensPerDay: number | null
  readonly tokensPerMonth: number | null
  /** Counts and tells, refuses nothing. */
  readonly dryRun: boolean
}

/** Money for a million tokens, in the fleet's currency. */
export interface Price {
  readonly prompt: number
  /** Of the prompt's tokens, those out of a prefix cache. */
  readonly cached: number
  readonly completion: number
}

export type WebhookEvent = 'budget' | 'guard'

/** Who is told of what. */
export interface Webhook {
  /** Name of the Worker secret with the URL. */
  readonly urlSecret: string
  readonly events: readonly WebhookEvent[]
}

/**
 * What tenants' objects need of a fleet version. Few versions change it, so they are told by its hash
 * and ask for the rest when it is another one than theirs.
 */
export interface Terms {
  readonly version: number
  /** Of all that follows, and of nothing else. */
  readonly hash: string
  readonly plans: Readonly<Record<string, Plan>>
  /** What plans said last that were in earlier versions; absent where there are none, and from the release before. */
  readonly retired?: Readonly<Record<string, Plan>>
  /** By the model's own name; one without a price costs nothing. */
  readonly prices: Readonly<Record<string, Price>>
  /** ISO 4217; null where the fleet names none. */
  readonly currency: string | null
  /** IANA name; days and months begin by it. */
  readonly timeZone: string
  readonly webhooks: readonly Webhook[]
}

/** Whose tokens (JWT, RFC 7519) are taken in place of keys. */
export interface JwtIssuer {
  readonly issuer: string
  readonly audience: string
  readonly jwksUrl: string
  /** The claim that names the tenant. */
  readonly tenantClaim: string
  /** Seconds by which clocks may differ. */
  readonly clockSkewS: number
}

/** One fleet version, as the Worker routes by it. */
export interface Snapshot {
  readonly version: number
  /**
   * Raised with every version, and whenever a rollout or a guard has changed an arm's share within one.
   * Absent: of the release before.
   */
  readonly revision?: number
  readonly models: Readonly<Record<string, ModelRoute>>
  readonly pools: Readonly<Record<string, PoolRoute>>
  readonly corsOrigins: readonly string[]
  readonly receipts: boolean
  /** Absent from a snapshot of the release before, like all that follow. */
  readonly terms?: Terms
  readonly jwt?: JwtIssuer | null
}
