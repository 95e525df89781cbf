import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { http, word } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { Place, ServerMake } from '../server-make.ts'
import { versionOf } from '../versions.ts'

const bodies = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']

const site = ({ target, port, backend }: Place): string => `server {
  listen 127.0.0.1:${port} ssl;
  ssl_certificate ${target}/tls.crt;
  ssl_certificate_key ${target}/tls.key;
  ssl_client_certificate ${target}/ca.crt;
  ssl_verify_client on;
  location / {
    proxy_pass http://127.0.0.1:${backend};
  }
}
`

export const nginx: ServerMake = {
  name: 'nginx',
  programs: ['nginx'],
  version: () => versionOf('nginx -v'),
  takes: ({ home }) => ['--exec', `nginx -c ${home}/nginx.conf -s reload`],
  recipe: (place) => ({ language: 'nginx', text: site(place) }),
  installed: { home: '/etc/nginx', run: '/run' },
  conversation: http('/', word),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: '`nginx -s reload`',
    needs: 'chain, key and bundle; root alone need read the key',
    notes: ['`ssl_verify_depth` can stay at its default of 1: OpenSSL does not count the root.'],
  },
  prepare: ({ home }) => {
    for (const name of bodies) mkdirSync(join(home, name))
  },
  start: (place) => {
    const { home, run, port, asRoot } = place
    writeFileSync(
      join(home, 'nginx.conf'),
      `${asRoot ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid ${run}/nginx.pid;
error_log stderr notice;
events {}
http {
access_log off;
${bodies.map((name) => `${name}_temp_path ${home}/${name};`).join('\n')}
${site(place)}}
`,
    )
    return launch({ program: 'nginx', args: ['-c', `${home}/nginx.conf`, '-e', 'stderr'], port })
  },
}
