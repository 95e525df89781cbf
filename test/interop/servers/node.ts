import { readFileSync } from 'node:fs'
import { http, http2 } from '../conversation.ts'
import { launch } from '../processes.ts'
import type { ServerMake } from '../server-make.ts'
import { grpcVersion } from '../versions.ts'

/** Servers on certgen/reload, as they stand in examples/. */
function example(file: string): Pick<ServerMake, 'programs' | 'takes' | 'recipe' | 'installed' | 'start'> {
  const path = `examples/${file}`
  return {
    programs: [],
    takes: 'by itself',
    recipe: () => ({ language: 'js', text: readFileSync(path, 'utf8') }),
    installed: { home: '.', run: '.' },
    start: ({ target, port }) =>
      launch({ program: process.execPath, args: [path, target, String(port)], port, ready: /:\/\/localhost:/ }),
  }
}

export const node: ServerMake = {
  ...example('server.js'),
  name: 'Node',
  version: () => process.versions.node,
  // It answers with the names of the client.
  conversation: http('/', 'hello, DNS:client.test'),
  clients: ['curl', 'Go (caddy)'],
  words: {
    takes: 'it watches: `ServerReloader` of `certgen/reload`',
    needs: 'the directory, readable by its user',
    notes: [],
  },
}

export const grpc: ServerMake = {
  ...example('grpc-server.js'),
  name: '@grpc/grpc-js',
  version: grpcVersion,
  conversation: http2,
  clients: ['grpc-js'],
  words: {
    takes: 'it watches: `ServerReloader` as its certificate provider',
    needs: 'the directory, readable by its user; the experimental certificate providers of grpc-js',
    notes: [
      "**Not by grpc-js' own `FileWatcherCertificateProvider`.** It reads key and certificate one after the other: when a " +
        'swap comes between, they do not match, and it takes no connection at all until it reads them again (tested in ' +
        '`test/interop/needs.test.ts`).',
    ],
  },
}
