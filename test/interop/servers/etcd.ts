import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../port.ts'
import { http } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { shellLines } from '../shell.ts'
import { versionOf } from '../versions.ts'

const flags = ({ target, port }: Place): string[] => [
  ...['--listen-client-urls', `https://127.0.0.1:${port}`, '--advertise-client-urls', `https://127.0.0.1:${port}`],
  ...['--cert-file', `${target}/tls.crt`, '--key-file', `${target}/tls.key`],
  ...['--client-cert-auth', '--trusted-ca-file', `${target}/ca.crt`],
]

export const etcd: ServerMake = {
  name: 'etcd',
  programs: ['etcd'],
  version: () => versionOf('etcd --version'),
  takes: 'leaf by itself',
  recipe: (place) => ({ language: 'sh', text: shellLines('etcd', flags(place)) }),
  installed: { home: '/var/lib/etcd', run: '/run' },
  conversation: http('/version', '"etcdserver"'),
  clients: ['Go (etcdctl)'],
  words: {
    takes: 'leaf and chain: read at each handshake; **bundle: a restart**',
    needs:
      'chain, key and bundle, readable by its user; a leaf for both usages; a restart in every rotation of the authority',
    notes: [
      'It reads its leaf by itself but its bundle only as it starts. Until it is restarted it still accepts clients of both ' +
        'generations, for the new ones present the cross-certificate. **After the next rotation of the authority it refuses ' +
        'new clients**, so restart the members, one after the other, between any two. Both are tested in ' +
        '`test/interop/needs.test.ts`.',
      'Its HTTP gateway connects to itself and presents the same leaf, which therefore has to be good for clients too.',
    ],
  },
  start: async (place) => {
    const peer = `http://127.0.0.1:${await freePort()}`
    const data = join(place.home, 'data')
    // A member remembers where its peers find it: each start is a cluster of its own.
    rmSync(data, { recursive: true, force: true })
    const args = [
      ...['--data-dir', data, '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `default=${peer}`, '--heartbeat-interval', '10', '--election-timeout', '50'],
      ...flags(place),
    ]
    return launch({ program: 'etcd', args, port: place.port, ready: /ready to serve client requests/ })
  },
}
