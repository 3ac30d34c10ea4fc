/** A site's tunnel and hostname: the commands, and running them where somebody wants that. */
import type { FleetFile } from '../../durable-objects/fleet/schema.ts'
import { EXIT, Failure } from './failure.ts'
import { typed, type Command, type Surroundings } from './setup-run.ts'

export interface Site {
  readonly id: string
  /** Hostnames of its tunnel. */
  readonly hosts: readonly string[]
  /** Name of the secret that its Nginx asks for; null: none. */
  readonly nodeKey: string | null
}

/** Sites that are reached over a tunnel; the others are private addresses. */
export const tunnelled = (fleet: FleetFile): readonly Site[] =>
  Object.entries(fleet.sites).flatMap(([id, { origin, node_key }]) => {
    const urls = [origin].flat().map((text) => new URL(text))
    const hosts = urls.flatMap(({ protocol, hostname }) => (protocol === 'https:' ? hostname : []))
    return hosts.length === 0 ? [] : [{ id, hosts, nodeKey: node_key ?? null }]
  })

export const createTunnel = ({ id }: Site): Command => ['cloudflared', 'tunnel', 'create', id]

export const routeDns = ({ id, hosts }: Site): readonly Command[] =>
  hosts.map((host) => ['cloudflared', 'tunnel', 'route', 'dns', id, host])

/** What is left to do on the site's machine, as one would type it. */
export const onSite = (site: Site, file: string): readonly string[] => [
  `npx penstock kit nginx ${file} --site ${site.id} > nginx.conf`,
  ...(site.nodeKey === null
    ? []
    : [`echo '"<value of ${site.nodeKey}>" 1;' > /etc/nginx/penstock-node-keys  # mode 600`]),
]

/** @throws Failure where cloudflared was asked to do something and could not */
export async function setUpSite(around: Surroundings, site: Site, file: string): Promise<void> {
  const { run, say, wants } = around
  const commands = [createTunnel(site), ...routeDns(site)]
  say(
    `site ${site.id}: on its machine, after \`cloudflared tunnel login\` (docs/deploy.md, step 3)`,
  )
  for (const command of commands) say(`  ${typed(command)}`)
  for (const line of onSite(site, file)) say(`  ${line}`)
  if (
    !(await wants(`Is this the machine of site ${site.id}, and shall the tunnel be made here?`))
  ) {
    return
  }
  if (await hasTunnel(around, site.id)) say(`tunnel ${site.id} is there already`)
  else await must(run, createTunnel(site))
  // Said again of a hostname that has it, this changes nothing.
  for (const command of routeDns(site)) await must(run, command)
}

async function hasTunnel({ run }: Surroundings, name: string): Promise<boolean> {
  const { exit, out } = await run(['cloudflared', 'tunnel', 'list', '--output', 'json'])
  if (exit !== 0) {
    throw new Failure(
      EXIT.invalid,
      'cloudflared tunnel list failed: cloudflared tunnel login first',
    )
  }
  const tunnels = JSON.parse(out || '[]') as readonly { readonly name: string }[] | null
  return (tunnels ?? []).some((tunnel) => tunnel.name === name)
}

async function must(run: Surroundings['run'], command: Command): Promise<void> {
  const { exit } = await run(command, { shown: true })
  if (exit !== 0) throw new Failure(EXIT.invalid, `${typed(command)} failed (exit code ${exit})`)
}
