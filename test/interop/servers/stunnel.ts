import { writeFileSync } from 'node:fs'
import { http, word } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

const configuration = ({ run, target, port, backend }: Place): string => `pid = ${run}/stunnel.pid

[tls]
accept = 127.0.0.1:${port}
connect = 127.0.0.1:${backend}
cert = ${target}/tls.pem
CAfile = ${target}/ca.crt
verifyChain = yes
`

export const stunnel: ServerMake = {
  name: 'stunnel4',
  programs: ['stunnel4'],
  version: () => versionOf('stunnel4 -version'),
  takes: ({ run }) => ['--signal', `${run}/stunnel.pid:HUP`],
  recipe: (place) => ({ language: 'ini', text: configuration(place) }),
  installed: { home: '/etc/stunnel', run: '/run' },
  conversation: http('/', word),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: '`SIGHUP`',
    needs: 'combined PEM (`tls.pem`) and bundle, readable when it reloads',
    notes: [
      'Its manual: with `setuid` or `chroot` it reloads as that user and from that directory, and has to find the ' +
        'certificates there.',
    ],
  },
  start: (place) => {
    const path = `${place.home}/stunnel.conf`
    writeFileSync(path, `foreground = yes\n${configuration(place)}`)
    return launch({ program: 'stunnel4', args: [path], port: place.port })
  },
}
