import type { Command } from 'commander'
import type { NginxOptions } from '../kit/nginx.ts'
import { renderNginx } from '../kit/nginx.ts'
import { EXIT, Failure } from './failure.ts'
import { readFleet } from './files.ts'
import { print, printJson } from './output.ts'

type Options = NginxOptions & { readonly site: string; readonly json?: boolean }

function nginx(file: string, { site, json = false, ...options }: Options): void {
  const { fleet } = readFleet(file, json)
  let text: string
  try {
    text = renderNginx(fleet, site, options)
  } catch (cause) {
    throw new Failure(EXIT.invalid, (cause as Error).message)
  }
  if (json) printJson({ file: 'nginx.conf', text })
  else print(text.trimEnd())
}

/** `kit`: the files for the on-prem side. */
export function addKitCommands(program: Command): void {
  program
    .command('kit')
    .description('print the files for the on-prem side')
    .command('nginx')
    .description("print a site's nginx.conf")
    .argument('<file>', 'the fleet file')
    .requiredOption('--site <id>', 'the site')
    .option('--listen <address>', 'where cloudflared finds it', '127.0.0.1:8080')
    .option('--grpc-listen <address>', "where the site's own network finds native gRPC; else none")
    .option('--node-key-file <path>', 'lines `"<key>" 1;`', '/etc/nginx/penstock-node-keys')
    .option('--run-dir <path>', "folder for pid, logs and temporary files; else the system's")
    .option('--user <name>', 'whom its workers run as')
    .option('--json', 'print JSON')
    .action(nginx)
}
