import { execFile } from 'node:child_process'
import { chmodSync, chownSync, existsSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { output } from '../../program.ts'
import { postgres } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

/** Debian has the server's programs off the PATH, a directory for each version. */
function programAt(name: string): string {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : []
  return versions.map((version) => join(root, version, 'bin', name)).find((path) => existsSync(path)) ?? name
}

const [server, initdb] = [programAt('postgres'), programAt('initdb')]

const settings = ({ target }: Place): string => `ssl = on
ssl_cert_file = '${target}/tls.crt'
ssl_key_file = '${target}/tls.key'
ssl_ca_file = '${target}/ca.crt'
`

const clientRule = 'hostssl all all 127.0.0.1/32 trust clientcert=verify-ca'

/** It runs as a user of its own, and takes a key of root's only when none but root and a group can read it. */
const admit = ({ target }: Place): string => `chgrp postgres ${target}/tls.key && chmod 640 ${target}/tls.key`

const reload = ({ home }: Place): string => `kill -HUP "$(head -n 1 ${home}/postmaster.pid)"`

export const postgresql: ServerMake = {
  name: 'PostgreSQL',
  programs: [server, initdb],
  version: () => versionOf(`${server} --version`),
  takes: (place) => ['--exec', place.asRoot ? `${admit(place)} && ${reload(place)}` : reload(place)],
  recipe: (place) => ({ language: 'ini', text: settings(place) }),
  installed: { home: '/var/lib/postgresql/15/main', run: '/run/postgresql' },
  conversation: postgres,
  clients: ['psql'],
  words: {
    takes: '`SIGHUP`',
    needs: 'chain, key and bundle; the key its own with mode 0600, or of root with at most 0640',
    notes: [
      'certgen as root writes a key that only root can read. The hook opens it to the group of the server before each ' +
        'reload, and the same has to be done once before the first start. Where certgen runs as `postgres`, the signal ' +
        'alone is enough.',
      `Clients have to present a certificate where \`pg_hba.conf\` says so. The tests run with \`${clientRule}\`.`,
    ],
  },
  prepare: async ({ home, target, asRoot }) => {
    const { user } = serverUser(asRoot)
    if (user) {
      chownSync(home, user.uid, user.gid)
      // It has to get as far as the target.
      chmodSync(dirname(target), 0o711)
    }
    await promisify(execFile)(initdb, ['--pgdata', home, '--username=postgres', '--auth=trust', '--no-sync'], user)
  },
  start: (place) => {
    const { home, run, port, asRoot } = place
    writeFileSync(
      join(home, 'postgresql.conf'),
      `listen_addresses = '127.0.0.1'
port = ${port}
unix_socket_directories = '${run}'
fsync = off
${settings(place)}`,
    )
    writeFileSync(join(home, 'pg_hba.conf'), `${clientRule}\n`)
    if (asRoot) output('sh', '-c', admit(place))
    return launch({
      program: server,
      args: ['-D', home],
      port,
      ready: /ready to accept connections/,
      // A fast shutdown: it does not wait for clients.
      stopSignal: 'SIGINT',
      ...serverUser(asRoot),
    })
  },
}

/** It refuses to run as root. */
function serverUser(asRoot: boolean): { user?: { uid: number; gid: number } } {
  if (!asRoot) return {}
  return { user: { uid: Number(output('id', '-u', 'postgres')), gid: Number(output('id', '-g', 'postgres')) } }
}
