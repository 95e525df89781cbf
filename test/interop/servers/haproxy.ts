import { writeFileSync } from 'node:fs'
import { http, word } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

const configuration = ({ target, port, backend }: Place): string => `defaults
  mode http
  timeout client 10s
  timeout connect 10s
  timeout server 10s

frontend tls
  bind 127.0.0.1:${port} ssl crt ${target}/tls.pem ca-file ${target}/ca.crt verify required
  default_backend app

backend app
  server app 127.0.0.1:${backend}
`

export const haproxy: ServerMake = {
  name: 'haproxy',
  programs: ['haproxy'],
  version: () => versionOf('haproxy -v'),
  takes: ({ run }) => ['--signal', `${run}/haproxy.pid:USR2`],
  recipe: (place) => ({ language: 'haproxy', text: configuration(place) }),
  installed: { home: '/etc/haproxy', run: '/run' },
  conversation: http('/', word),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: '`SIGUSR2` to its master process',
    needs: 'combined PEM (`tls.pem`) and bundle; master-worker mode (`-W`)',
    notes: [
      "Debian's service runs it with `-Ws`, which is such a mode, and has its process number in `/run/haproxy.pid`.",
    ],
  },
  start: (place) => {
    const path = `${place.home}/haproxy.cfg`
    writeFileSync(path, configuration(place))
    const args = ['-W', '-db', '-f', path, '-p', `${place.run}/haproxy.pid`]
    return launch({ program: 'haproxy', args, port: place.port })
  },
}
