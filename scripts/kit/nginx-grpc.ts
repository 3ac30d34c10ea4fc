/**
 * Native gRPC for programs on the site's own network: a second server, which hands each call to the
 * instance that its metadata `x-penstock-instance` names. The edge cannot speak it: Workers have no
 * HTTP/2 trailers.
 */
import { addressOf, listenAddress } from './nginx-site.ts'
import type { Backend } from './nginx-site.ts'

/**
 * The methods that generate or read. Not `Abort`: it takes anybody's request id, and a caller ends its
 * own request by cancelling the call. Nothing that vLLM's servicer adds over time opens by itself.
 */
const METHODS = [
  ...['Generate', 'Embed', 'GetModelInfo', 'GetServerInfo', 'HealthCheck'].map(
    (method) => `/vllm.grpc.engine.VllmEngine/${method}`,
  ),
  ...['Check', 'Watch'].map((method) => `/grpc.health.v1.Health/${method}`),
]

/** Nginx's own answers as gRPC statuses, by Nginx's. A message holds no `%`, `"` or `$`. */
const ANSWERS = [
  { statuses: [403], grpc: 16, message: 'The node key is missing or unknown.' },
  { statuses: [404, 405], grpc: 12, message: 'This method is not open here.' },
  { statuses: [408, 504], grpc: 4, message: 'It took too long.' },
  { statuses: [413], grpc: 8, message: 'The message is larger than this site takes.' },
  { statuses: [421], grpc: 5, message: 'x-penstock-instance names no instance with gRPC here.' },
  { statuses: [500, 501], grpc: 13, message: 'The site could not handle the call.' },
  { statuses: [502, 503], grpc: 14, message: 'The instance cannot be reached.' },
] as const
const BAD_REQUEST = {
  statuses: [400, 411, 414, 416, 494, 505],
  grpc: 13,
  message: 'The call could not be read.',
} as const

/** Metadata that is for Nginx, or that a program meant for the HTTP API: vLLM gets none of it. */
const KEPT_BACK = [
  'x-penstock-node-key',
  'x-penstock-instance',
  'authorization',
  'x-api-key',
  'cookie',
  'x-data-parallel-rank',
  'x-vllm-priority',
]

export interface GrpcOptions {
  readonly site: string
  readonly listen: string
  readonly grpcListen?: string
  readonly hasNodeKey: boolean
  /** The log's file, as Nginx reads it. */
  readonly accessLog: string
  /** Where a request is answered that has no path of its own; the node key is not asked there. */
  readonly badRequestPath: string
}

type GrpcBackend = Backend & { readonly grpc_port: number }

const upstreamOf = ({ id, host, grpc_port: port }: GrpcBackend): string => `
    upstream grpc-${id} {
        server ${addressOf({ host, port })} max_fails=0;
        keepalive 64;
        keepalive_requests 10000;
    }`

/** Trailers-Only: 200 with the status among the headers. Another status would hide it from clients. */
const answered = ({ grpc, message }: { grpc: number; message: string }): string =>
  `add_header grpc-status ${grpc} always; add_header grpc-message "${message}" always; return 200 "";`

const answerOf = (answer: (typeof ANSWERS)[number]): string => `
        error_page ${answer.statuses.join(' ')} =200 @grpc_${answer.grpc};
        location @grpc_${answer.grpc} { ${answered(answer)} }`

// The path as it was sent is what `grpc_pass` passes on, so it must be the written one to the letter.
const methodOf = (path: string): string =>
  `        location = ${path} { if ($request_uri != ${path}) { return 404; } if ($request_method != POST) { return 405; } if ($penstock_grpc = "") { return 421; } grpc_pass grpc://$penstock_grpc; }`

/**
 * The part of `nginx.conf` for native gRPC; empty where none is asked for.
 *
 * @throws Error where it is asked for and cannot be
 */
export function grpcOf(backends: readonly Backend[], options: GrpcOptions): string {
  const { site, grpcListen, hasNodeKey, accessLog, badRequestPath } = options
  if (grpcListen === undefined) return ''
  const listen = listenAddress(grpcListen, hasNodeKey)
  if (listen === options.listen) throw new Error(`${listen}: HTTP listens there already`)
  const targets = backends.filter((it): it is GrpcBackend => it.grpc_port !== undefined)
  if (targets.length === 0) throw new Error(`no instance of site ${site} has a grpc_port`)
  // One server for all pools, and no limit can depend on the call: the most that any pool allows.
  const most = (of: (target: GrpcBackend) => number): number => Math.max(...targets.map(of))
  return `
    # Native gRPC, for programs on the site's own network.
    map $http_x_penstock_instance $penstock_grpc {
        default "";
${targets.map(({ id }) => `        "~^${id}$" grpc-${id};`).join('\n')}
    }
    log_format penstock_grpc escape=json '{"time":"$time_iso8601","request":"$http_x_request_id",'
        '"instance":"$penstock_grpc","method":"$request_method","path":"$uri","status":$status,'
        '"grpc_status":"$sent_http_grpc_status$upstream_trailer_grpc_status","bytes":$body_bytes_sent,'
        '"seconds":$request_time,"connect_seconds":"$upstream_connect_time",'
        '"header_seconds":"$upstream_header_time","upstream_seconds":"$upstream_response_time"}';
${targets.map(upstreamOf).join('')}

    server {
        listen ${listen} http2;
        server_name _;
        types { }
        default_type application/grpc;
        access_log ${accessLog} penstock_grpc;
${hasNodeKey ? '\n        if ($penstock_refused) { return 403; }\n' : ''}
        keepalive_timeout 300s;
        keepalive_requests 100000;
        http2_max_concurrent_streams 1024; # a client's calls share one connection
        large_client_header_buffers 4 32k;
        client_max_body_size ${most((it) => it.bodyBytes)};
        client_body_timeout 60s;
        send_timeout ${most((it) => it.readSeconds)}s;
        reset_timedout_connection on;
        grpc_connect_timeout 2s;
        grpc_send_timeout 60s;
        # Not the longest silence: a Generate that does not stream is silent until it is done.
        grpc_read_timeout ${most((it) => it.totalSeconds)}s;
        grpc_socket_keepalive on;
        grpc_next_upstream off; # what has begun to generate is not asked for twice
        grpc_intercept_errors off;
${KEPT_BACK.map((name) => `        grpc_set_header ${name} "";`).join('\n')}

${METHODS.map(methodOf).join('\n')}
        location / { return 404; }
${ANSWERS.map(answerOf).join('')}
        error_page ${BAD_REQUEST.statuses.join(' ')} =200 ${badRequestPath};
        location = ${badRequestPath} { internal; ${answered(BAD_REQUEST)} }
    }
`
}
