/**
 * Writes a site's `nginx.conf`. Nginx is the second allow-list behind the edge: every path it passes
 * on is written out, so nothing that a client sends ever becomes part of the path that vLLM sees.
 * Works with Debian's 1.22.1 and newer ones.
 */
import { isPrivateHost } from '../../durable-objects/fleet/address.ts'
import type { FleetFile, InstanceSpec } from '../../durable-objects/fleet/schema.ts'
import { poolSettings } from '../../durable-objects/fleet/settings.ts'
import { ANSWERS, ENDPOINTS } from './endpoints.ts'

export interface NginxOptions {
  /** Address and port, `127.0.0.1:8080`: where cloudflared finds it. */
  readonly listen: string
  /** Absolute path of the file with the node keys, a line `"<key>" 1;` each. */
  readonly nodeKeyFile: string
  /** Absolute path of a folder for pid, logs and temporary files; the system's places when absent. */
  readonly runDir?: string
  /** Whom Nginx's workers run as; they must be able to write to `runDir`. Nginx's own default when absent. */
  readonly user?: string
}

/** Added to the largest body: the edge puts a few fields of its own into it. */
const BODY_MARGIN_BYTES = 1024 ** 2
/** Added to the longest silence, so that the edge's own timeout, which can retry, comes first. */
const READ_MARGIN_MS = 10_000

type SiteInstance = Extract<InstanceSpec, { site: string }>

interface Backend extends SiteInstance {
  readonly pool: string
  readonly bodyBytes: number
  readonly readSeconds: number
}

function backendsOf(fleet: FleetFile, site: string): readonly Backend[] {
  return Object.entries(fleet.pools).flatMap(([pool, spec]) => {
    const { limits, timeouts } = poolSettings(spec, fleet.defaults)
    const silenceMs = Math.max(timeouts.first_byte, timeouts.idle) + READ_MARGIN_MS
    return spec.instances
      .filter((instance): instance is SiteInstance => 'site' in instance && instance.site === site)
      .map((instance) => ({
        ...instance,
        pool,
        bodyBytes: limits.body + BODY_MARGIN_BYTES,
        readSeconds: Math.ceil(silenceMs / 1000),
      }))
  })
}

const addressOf = ({ host, port }: SiteInstance): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`

/** A path as Nginx reads it. Nginx would expand globs and variables, so those are refused. */
function filePath(path: string): string {
  if (/^\/[A-Za-z0-9._/@+ -]*$/.test(path)) return `"${path}"`
  throw new Error(`${path}: use an absolute path of letters, digits, spaces and . _ / @ + -`)
}

function listenAddress(listen: string, hasNodeKey: boolean): string {
  const match = /^(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):\d{1,5}$/.exec(listen)
  if (match === null) throw new Error(`${listen}: write an address and a port, e.g. 127.0.0.1:8080`)
  if (!hasNodeKey && !isPrivateHost(match[1] ?? '')) {
    throw new Error(
      `${listen}: a site without node_key may listen on loopback and private addresses only`,
    )
  }
  return listen
}

const upstreamOf = (backend: Backend): string => `
    upstream vllm-${backend.id} {
        server ${addressOf(backend)} max_fails=0; # the edge decides who is healthy
        keepalive 64;
        keepalive_timeout 4s; # vLLM closes idle connections after 5 s: be the first
        keepalive_requests 10000;
    }`

const locationOf = (backend: Backend): string => `
        # ${backend.id} of pool ${backend.pool}: ${addressOf(backend)}
        location /i/${backend.id}/ {
            client_max_body_size ${backend.bodyBytes};
            proxy_read_timeout ${backend.readSeconds}s;
            send_timeout ${backend.readSeconds}s;
${ENDPOINTS.map(
  ({ method, path }) =>
    `            location = /i/${backend.id}${path} { if ($penstock_method != ${method}) { return 405; } proxy_pass http://vllm-${backend.id}${path}; }`,
).join('\n')}
            return 404;
        }`

const BAD_REQUEST_PATH = '/penstock-bad-request'

type Answer = (typeof ANSWERS)[number]

const returned = ({ status, type, code, message }: Answer): string =>
  `return ${status} '${JSON.stringify({ error: { message, type, param: null, code } })}';`

/** Named locations keep the path for the log, but need one: a request that could not be read has none. */
const answerOf = (answer: Answer) => {
  const isUnread = answer.name === 'bad_request'
  const [to, location] = isUnread
    ? [BAD_REQUEST_PATH, `= ${BAD_REQUEST_PATH} { internal; `]
    : [`@${answer.name}`, `@${answer.name} { `]
  return `
        error_page ${answer.statuses.join(' ')} =${answer.status} ${to};
        location ${location}${returned(answer)} }`
}

const nodeKeyMap = (file: string): string => `
    # Who may pass: the edge, which knows a node key. Two keys may be valid at once, for rotation.
    map $http_x_penstock_node_key $penstock_admitted {
        default 0;
        include ${filePath(file)};
    }
    map "$penstock_admitted $uri" $penstock_refused {
        default 0;
        "0 ${BAD_REQUEST_PATH}" 0; # so that what could not be read gets its answer
        "~^0 " 1;
    }
`

const runFiles = (runDir: string | undefined) => {
  const at = (name: string): string => filePath(`${runDir ?? '/var/log/nginx'}/${name}`)
  if (runDir === undefined) {
    return {
      pid: '',
      errors: at('penstock-error.log'),
      access: at('penstock-access.log'),
      temp: '',
    }
  }
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `    ${kind}_temp_path ${at(`${kind}-temp`)};\n`)
    .join('')
  return {
    pid: `pid ${at('nginx.pid')};\n`,
    errors: at('error.log'),
    access: at('access.log'),
    temp,
  }
}

/**
 * Renders the whole `nginx.conf` of one site; the same input gives the same bytes.
 *
 * @param fleet a checked file
 * @param site  only this site's instances are in it
 * @throws Error naming an option or a site that cannot be used
 */
export function renderNginx(fleet: FleetFile, site: string, options: NginxOptions): string {
  const spec = Object.hasOwn(fleet.sites, site) ? fleet.sites[site] : undefined
  if (spec === undefined) throw new Error(`the fleet has no site ${site}`)
  const hasNodeKey = spec.node_key !== undefined
  const listen = listenAddress(options.listen, hasNodeKey)
  const backends = backendsOf(fleet, site)
  const files = runFiles(options.runDir)
  const user = options.user === undefined ? '' : `user ${options.user};\n`
  return `# Nginx for the site ${site}. Written by \`penstock kit nginx\`: change fleet.yaml and write it anew.

${user}${files.pid}error_log ${files.errors} error;
worker_processes auto;
worker_rlimit_nofile 65536;
worker_shutdown_timeout 300s; # a reload lets running streams finish

events {
    worker_connections 16384; # two for each stream
}

http {
${files.temp}    default_type application/json;
    server_tokens off;
    map_hash_bucket_size 256; # room for long node keys
    log_format penstock escape=json '{"time":"$time_iso8601","request":"$http_x_request_id",'
        '"instance":"$penstock_instance","method":"$request_method","path":"$uri","status":$status,'
        '"upstream_status":"$upstream_status","bytes":$body_bytes_sent,"seconds":$request_time,'
        '"connect_seconds":"$upstream_connect_time","header_seconds":"$upstream_header_time",'
        '"upstream_seconds":"$upstream_response_time"}';
    access_log ${files.access} penstock;

    map $uri $penstock_instance {
        default "";
        "~^/i/(?<penstock_id>[a-z0-9-]+)/" $penstock_id;
    }
    map $request_method $penstock_method {
        default $request_method;
        HEAD GET;
    }
${hasNodeKey ? nodeKeyMap(options.nodeKeyFile) : ''}${backends.map(upstreamOf).join('')}

    server {
        listen ${listen};
        server_name _;
        # On every answer, so that the edge can tell a fault of an instance from one of the tunnel.
        add_header x-penstock-origin ${site} always;
${hasNodeKey ? '\n        if ($penstock_refused) { return 403; }\n' : ''}
        # Connections from cloudflared: kept for longer than it keeps them.
        keepalive_timeout 120s;
        keepalive_requests 100000;
        large_client_header_buffers 4 32k;
        client_body_buffer_size 1m; # prompts of usual length never touch the disk
        client_body_timeout 60s;
        reset_timedout_connection on;

        # A stream's chunks pass as they come: no hop may hold them back (L21).
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_request_buffering on;
        proxy_cache off;
        gzip off;
        proxy_connect_timeout 2s;
        proxy_send_timeout 60s;
        proxy_socket_keepalive on;
        proxy_ignore_client_abort off; # a tenant who leaves frees the GPU
        proxy_next_upstream off; # the edge retries, on another instance
        proxy_intercept_errors off; # vLLM's own errors pass as they are
        proxy_redirect off;
        proxy_hide_header x-penstock-origin;

        # Of the request's headers vLLM gets these alone: no keys, no addresses, nothing that pins a
        # rank or sets a priority.
        proxy_pass_request_headers off;
        proxy_set_header Connection "";
        proxy_set_header Content-Type $http_content_type;
        proxy_set_header Accept $http_accept;
        proxy_set_header X-Request-Id $http_x_request_id;
        proxy_set_header traceparent $http_traceparent;
        proxy_set_header tracestate $http_tracestate;
        # vLLM started with --api-key: put  proxy_set_header Authorization "Bearer <key>";  in a file.
        # include /etc/nginx/penstock-vllm-key.conf;
${backends.map(locationOf).join('\n')}

        location / { return 404; }
${ANSWERS.map(answerOf).join('')}
    }
}
`
}
