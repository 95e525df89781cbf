import { writeFileSync } from 'node:fs'
import { http, word } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { RunningServer } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

const modules = ['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'ssl']

const site = ({ target, port, backend }: Place): string => `Listen 127.0.0.1:${port}
<VirtualHost 127.0.0.1:${port}>
  SSLEngine on
  SSLCertificateFile ${target}/tls.crt
  SSLCertificateKeyFile ${target}/tls.key
  SSLCACertificateFile ${target}/ca.crt
  SSLVerifyClient require
  SSLVerifyDepth 2
  ProxyPass / http://127.0.0.1:${backend}/
</VirtualHost>
`

export const apache2: ServerMake = {
  name: 'apache2',
  programs: ['apache2'],
  version: () => versionOf('apache2 -v'),
  takes: ({ run }) => ['--signal', `${run}/apache2.pid:USR1`],
  recipe: (place) => ({ language: 'apache', text: site(place) }),
  installed: { home: '/etc/apache2', run: '/run/apache2' },
  conversation: http('/', word),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: '`SIGUSR1` (graceful)',
    needs: 'chain, key and bundle; root alone need read the key; **`SSLVerifyDepth 2`**',
    notes: [
      '**`SSLVerifyDepth 2` has to be there before the first rotation.** Apache counts the root as well: with its default ' +
        'of 1 it refuses every client that presents the cross-certificate as long as it trusts the old root alone, which ' +
        'is an old server and a new client (tested in `test/interop/needs.test.ts`).',
    ],
  },
  start: (place) => startApache(place, site(place)),
}

export function startApache({ home, run, port, asRoot }: Place, ownSite: string): Promise<RunningServer> {
  const path = `${home}/apache2.conf`
  writeFileSync(
    path,
    `ServerRoot ${home}
ServerName localhost
PidFile ${run}/apache2.pid
ErrorLog ${home}/error.log
${asRoot ? 'User www-data\nGroup www-data' : ''}
${modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
${ownSite}`,
  )
  return launch({ program: 'apache2', args: ['-D', 'FOREGROUND', '-f', path], port, logFile: `${home}/error.log` })
}
