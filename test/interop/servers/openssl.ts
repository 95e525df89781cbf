import { join } from 'node:path'
import { line } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { openSslFiles, writeRest } from '../sets.ts'
import { shellLines } from '../shell.ts'
import { versionOf } from '../versions.ts'

const args = ({ port, target }: Place, rest: string | null): string[] => [
  ...['s_server', '-accept', `127.0.0.1:${port}`, '-rev', '-Verify', '1', '-verify_return_error'],
  ...openSslFiles(target, rest),
]

export const openssl: ServerMake = {
  name: 'OpenSSL s_server',
  programs: ['openssl'],
  version: () => versionOf('openssl version'),
  takes: 'by restart',
  recipe: (place) => ({ language: 'sh', text: shellLines('openssl', args(place, join(place.home, 'rest.pem'))) }),
  installed: { home: '.', run: '.' },
  conversation: line,
  clients: [],
  words: {
    takes: 'a restart',
    needs: 'leaf, key and bundle; the rest of the chain as a file of its own',
    notes: [
      '`-cert` reads no more than the first certificate. `rest.pem` is `tls.crt` without it: ' +
        "`awk '/BEGIN/ { n++ } n > 1' tls.crt`. Before the first rotation there is no such rest, and no `-cert_chain`.",
    ],
  },
  start: (place) =>
    launch({
      program: 'openssl',
      args: args(place, writeRest(place.target, place.home)),
      port: place.port,
      ready: /^ACCEPT/m,
    }),
}
