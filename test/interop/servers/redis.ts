import { writeFileSync } from 'node:fs'
import { redis as echo } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

const settings = ({ run, target, port }: Place): string => `port 0
tls-port ${port}
tls-cert-file ${target}/tls.crt
tls-key-file ${target}/tls.key
tls-ca-cert-file ${target}/ca.crt
tls-auth-clients yes
unixsocket ${run}/redis.sock
`

export const redis: ServerMake = {
  name: 'Redis',
  programs: ['redis-server', 'redis-cli'],
  version: () => versionOf('redis-server --version'),
  takes: ({ run, target }) => [
    '--exec',
    `redis-cli -e -s ${run}/redis.sock CONFIG SET tls-cert-file ${target}/tls.crt`,
  ],
  recipe: (place) => ({ language: 'ini', text: settings(place) }),
  installed: { home: '/etc/redis', run: '/run/redis' },
  conversation: echo,
  clients: ['redis-cli'],
  words: {
    takes: '`CONFIG SET`',
    needs: 'chain, key and bundle, readable by its user; a way in for `CONFIG SET`, such as a Unix socket',
    notes: [
      'To set one of the three files, to the name that it has, makes Redis read all three. With `-e` a refusal is an exit ' +
        'code, which certgen sees.',
    ],
  },
  start: (place) => {
    const path = `${place.home}/redis.conf`
    writeFileSync(path, `bind 127.0.0.1\ndir ${place.home}\nsave ""\n${settings(place)}`)
    return launch({ program: 'redis-server', args: [path], port: place.port })
  },
}
