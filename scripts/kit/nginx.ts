/**
 * Writes a site's `nginx.conf`. Nginx is the second allow-list behind the edge: every path it passes
 * on is written out, so nothing that a client sends ever becomes part of the path that vLLM sees.
 * Works with Debian's 1.22.1 and newer ones.
 */
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { ANSWERS, ENDPOINTS } from './endpoints.ts'
import type { SiteAnswer, SiteEndpoint } from './endpoints.ts'
import { grpcOf } from './nginx-grpc.ts'
import { addressOf, backendsOf, filePath, listenAddress } from './nginx-site.ts'
import type { Backend } from './nginx-site.ts'

export interface NginxOptions {
  /** Address and port, `127.0.0.1:8080`: where cloudflared finds it. */
  readonly listen: string
  /** Address and port for native gRPC clients of the site's own network; none when absent. */
  readonly grpcListen?: string
  /** Absolute path of the file with the node keys, a line `"<key>" 1;` each. */
  readonly nodeKeyFile: string
  /** Absolute path of a folder for pid, logs and temporary files; the system's places when absent. */
  readonly runDir?: string
  /** Whom Nginx's workers run as; they must be able to write to `runDir`. Nginx's own default when absent. */
  readonly user?: string
}

const upstreamOf = (backend: Backend): string => `
    upstream vllm-${backend.id} {
        server ${addressOf(backend)} max_fails=0; # the edge decides who is healthy
        keepalive 64;
        keepalive_timeout 4s; # vLLM closes idle connections after 5 s: be the first
        keepalive_requests 10000;
    }`

const endpointOf = (backend: Backend, { method, path, kind }: SiteEndpoint): string => {
  const rules = {
    audio: ` client_max_body_size ${backend.audioBytes};`,
    websocket: ` if ($penstock_upgrade = "") { return 426; } proxy_read_timeout ${backend.totalSeconds}s; proxy_send_timeout ${backend.totalSeconds}s;`,
  }
  return `            location = /i/${backend.id}${path} { if ($penstock_method != ${method}) { return 405; }${kind ? rules[kind] : ''} proxy_pass http://vllm-${backend.id}${path}; }`
}

const locationOf = (backend: Backend): string => `
        # ${backend.id} of pool ${backend.pool}: ${addressOf(backend)}
        location /i/${backend.id}/ {
            client_max_body_size ${backend.bodyBytes};
            proxy_read_timeout ${backend.readSeconds}s;
            send_timeout ${backend.readSeconds}s;
${ENDPOINTS.map((endpoint) => endpointOf(backend, endpoint)).join('\n')}
            return 404;
        }`

const BAD_REQUEST_PATH = '/penstock-bad-request'

const originHeader = (site: string): string => `add_header x-penstock-origin ${site} always;`

const returned = ({ status, type, code, message }: SiteAnswer): string =>
  `return ${status} '${JSON.stringify({ error: { message, type, param: null, code } })}';`

/** Named locations keep the path for the log, but need one: a request that could not be read has none. */
const answerOf = (answer: SiteAnswer, site: string) => {
  const isUnread = answer.name === 'bad_request'
  const [to, location] = isUnread
    ? [BAD_REQUEST_PATH, `= ${BAD_REQUEST_PATH} { internal; `]
    : [`@${answer.name}`, `@${answer.name} { `]
  // A location with a header of its own inherits none.
  const headers = answer.header ? `${originHeader(site)} add_header ${answer.header} always; ` : ''
  return `
        error_page ${answer.statuses.join(' ')} =${answer.status} ${to};
        location ${location}${headers}${returned(answer)} }`
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

/** A header with an empty value is not sent: these are, for a WebSocket on the one path that has them. */
const UPGRADE_MAPS = `
    map "$request_method $uri $http_upgrade" $penstock_upgrade {
        default "";
        "~*^GET /i/[a-z0-9-]+/v1/realtime websocket$" websocket;
    }
    map $penstock_upgrade $penstock_connection {
        default "";
        websocket upgrade;
    }
`

/**
 * The edge asks for another name in a stream's frames, and Nginx, which passes every byte anyway, puts
 * it there: what the edge need not change, it need not look at. Quotes within generated text are
 * escaped, so only the member itself is found. Both empty: nothing is looked for.
 */
const RENAME_MAP = `
    map $http_x_penstock_served_as $penstock_said {
        default '"model":"$http_x_penstock_served_as"';
        "" "";
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
  const grpc = grpcOf(backends, {
    ...options,
    site,
    hasNodeKey,
    accessLog: files.access,
    badRequestPath: BAD_REQUEST_PATH,
  })
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
${UPGRADE_MAPS}${RENAME_MAP}${hasNodeKey ? nodeKeyMap(options.nodeKeyFile) : ''}${backends.map(upstreamOf).join('')}

    server {
        listen ${listen};
        server_name _;
        # On every answer, so that the edge can tell a fault of an instance from one of the tunnel.
        ${originHeader(site)}
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

        # An alias: the name a tenant asked by, in each frame of its stream.
        sub_filter_types text/event-stream;
        sub_filter_once off;
        sub_filter $penstock_said '"model":"$http_x_penstock_shown_as"';

        # Of the request's headers vLLM gets these alone: no keys, no addresses, nothing that pins a
        # rank or sets a priority.
        proxy_pass_request_headers off;
        proxy_set_header Connection $penstock_connection;
        proxy_set_header Upgrade $penstock_upgrade;
        proxy_set_header Sec-WebSocket-Key $http_sec_websocket_key; # no extensions: frames stay plain
        proxy_set_header Sec-WebSocket-Version $http_sec_websocket_version; # no protocol: it may hold a key
        proxy_set_header Content-Type $http_content_type;
        proxy_set_header Accept $http_accept;
        proxy_set_header Anthropic-Version $http_anthropic_version;
        proxy_set_header Anthropic-Beta $http_anthropic_beta;
        proxy_set_header X-Request-Id $http_x_request_id;
        proxy_set_header traceparent $http_traceparent;
        proxy_set_header tracestate $http_tracestate;
        # vLLM started with --api-key: put  proxy_set_header Authorization "Bearer <key>";  in a file.
        # include /etc/nginx/penstock-vllm-key.conf;
${backends.map(locationOf).join('\n')}

        location / { return 404; }
${ANSWERS.map((answer) => answerOf(answer, site)).join('')}
    }
${grpc}}
`
}
