import { writeFileSync } from 'node:fs'
import { http, word } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { RunningServer } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

function configuration({ run, target, port, backend }: Place): object {
  const policy = { mode: 'require_and_verify', trusted_ca_certs_pem_files: [`${target}/ca.crt`] }
  const server = {
    listen: [`127.0.0.1:${port}`],
    automatic_https: { disable: true },
    tls_connection_policies: [{ client_authentication: policy }],
    routes: [{ handle: [{ handler: 'reverse_proxy', upstreams: [{ dial: `127.0.0.1:${backend}` }] }] }],
  }
  const pair = { certificate: `${target}/tls.crt`, key: `${target}/tls.key` }
  return {
    admin: { listen: `unix/${run}/caddy.sock` },
    apps: { http: { servers: { tls: server } }, tls: { certificates: { load_files: [pair] } } },
  }
}

const recipe = (place: Place): string => `${JSON.stringify(configuration(place), null, 2)}\n`

export const caddy: ServerMake = {
  name: 'caddy',
  programs: ['caddy'],
  version: () => versionOf('caddy version'),
  takes: ({ home }) => ['--exec', `caddy reload --force --config ${home}/caddy.json`],
  recipe: (place) => ({ language: 'json', text: recipe(place) }),
  installed: { home: '/etc/caddy', run: '/run/caddy' },
  conversation: http('/', word),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: '`caddy reload --force`',
    needs: 'chain, key and bundle, readable by its user; before 2.8 **JSON, not a Caddyfile**',
    notes: [
      'Without `--force` caddy finds the same configuration and leaves the certificates as they are.',
      "**Before 2.8 a Caddyfile's `trusted_ca_cert_file` takes no more than the first certificate of a bundle** (caddy " +
        'issue 5981): after a rotation caddy then trusts the new root alone, and refuses old clients. The JSON ' +
        'configuration takes them all. Both are tested in `test/interop/needs.test.ts`.',
    ],
  },
  start: (place) => startCaddy(place, 'caddy.json', recipe(place)),
}

export function startCaddy({ home, port }: Place, file: string, text: string): Promise<RunningServer> {
  const path = `${home}/${file}`
  writeFileSync(path, text)
  // It keeps a copy of its configuration in the user's own directory, unless it is told another.
  const env = { ...process.env, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home }
  return launch({ program: 'caddy', args: ['run', '--config', path], port, env })
}
