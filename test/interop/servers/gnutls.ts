import { line } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { gnuTlsFiles } from '../sets.ts'
import { shellLines } from '../shell.ts'
import { versionOf } from '../versions.ts'

const args = ({ port, target }: Place): string[] => [
  ...['--echo', '--port', String(port), '--require-client-cert', '--verify-client-cert'],
  ...gnuTlsFiles(target),
]

export const gnutls: ServerMake = {
  name: 'gnutls-serv',
  programs: ['gnutls-serv'],
  version: () => versionOf('gnutls-serv --version'),
  takes: 'by restart',
  recipe: (place) => ({ language: 'sh', text: shellLines('gnutls-serv', args(place)) }),
  installed: { home: '.', run: '.' },
  conversation: line,
  clients: [],
  words: {
    takes: 'a restart',
    needs: 'chain, key and bundle',
    notes: ['Without `--verify-client-cert` it asks for a certificate and takes any.'],
  },
  start: (place) => launch({ program: 'gnutls-serv', args: args(place), port: place.port }),
}
