import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import grpc from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { listen } from '../port.ts'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { clientMakes, talkByNode } from './clients.ts'
import { http2, makeBackend } from './conversation.ts'
import type { RunningServer } from './processes.ts'
import type { ServerMake } from './server-make.ts'
import { apache2, startApache } from './servers/apache2.ts'
import { caddy, startCaddy } from './servers/caddy.ts'
import { etcd } from './servers/etcd.ts'
import { keepSet, nodeFiles } from './sets.ts'
import type { SetDirectory } from './sets.ts'
import { Stand } from './stand.ts'

/** What docs/interop.md says that a server needs: what becomes of a rotation without it. */

const backend = makeBackend()
let backendPort = 0
beforeAll(async () => {
  backendPort = await listen(backend)
})
afterAll(() => void backend.close())

async function standing(make: Pick<ServerMake, 'conversation' | 'prepare' | 'start'>): Promise<Stand> {
  const stand = await Stand.make(make, backendPort)
  onTestFinished(() => stand.stop())
  return stand
}

/** Why a client of a generation is not answered; null when it is. */
function refusal(stand: Stand, { conversation }: ServerMake, generation: 'old' | 'new'): Promise<string | null> {
  return talkByNode(nodeFiles(stand.set('client', generation)), stand.place.port, conversation)
}

describe.skipIf(missing('apache2'))('apache2', () => {
  it('with the SSLVerifyDepth that it has by default refuses a new client while it has the old files', async () => {
    const shallow = (text: string): string => text.replace('SSLVerifyDepth 2', '')
    const stand = await standing({
      ...apache2,
      start: (place) => startApache(place, shallow(apache2.recipe(place).text)),
    })
    await stand.rotate()
    await stand.start('old')
    expect(await refusal(stand, apache2, 'old')).toBeNull()
    expect(await refusal(stand, apache2, 'new')).toMatch(/alert|closed/)
    expect(stand.log()).toContain('Certificate Chain too long')
  })
})

describe.skipIf(missing('caddy'))('caddy', () => {
  it('goes on with the old leaf after a reload without --force', async () => {
    const stand = await standing(caddy)
    await stand.start()
    await stand.rotate('--exec', `caddy reload --config ${stand.place.home}/caddy.json`)
    expect(await stand.probe()).toEqual([7, ['old-leaf']])
  })

  it('before 2.8 refuses an old client once it has the new files, when a Caddyfile names the bundle', async () => {
    const stand = await standing({ ...caddy, start: (place) => startCaddy(place, 'Caddyfile', caddyfile(place)) })
    await stand.start()
    await stand.rotate('--exec', `caddy reload --force --config ${stand.place.home}/Caddyfile`)
    expect(await stand.probe('--wait', '20s')).toEqual([0, []])
    expect(await refusal(stand, caddy, 'new')).toBeNull()
    const [major = 0, minor = 0] = caddy.version().split('.').map(Number)
    const takesAll = major > 2 || (major === 2 && minor >= 8)
    expect((await refusal(stand, caddy, 'old')) === null).toBe(takesAll)
  })

  function caddyfile({ run, target, port, backend: behind }: Stand['place']): string {
    return `{
  admin unix/${run}/caddy.sock
  auto_https off
}
https://:${port} {
  bind 127.0.0.1
  tls ${target}/tls.crt ${target}/tls.key {
    client_auth {
      mode require_and_verify
      trusted_ca_cert_file ${target}/ca.crt
    }
  }
  reverse_proxy 127.0.0.1:${behind}
}
`
  }
})

describe.skipIf(missing('etcd'))('etcd', () => {
  it('refuses new clients after the second rotation without a restart, until it is restarted', async () => {
    const stand = await standing(etcd)
    await stand.start()
    await stand.rotate()
    expect(await refusal(stand, etcd, 'new')).toBeNull()
    await stand.rotate()
    expect(await refusal(stand, etcd, 'new')).toMatch(/alert|closed/)
    await stand.start()
    expect(await refusal(stand, etcd, 'new')).toBeNull()
  })
})

describe("grpc-js' own FileWatcherCertificateProvider", () => {
  it('has the server take no connection as long as the key that it has read is not of the certificate', async () => {
    const directory = temporaryDirectory()
    grpc.setLogVerbosity(grpc.logVerbosity.NONE)
    const stand = await standing({ conversation: http2, start: ({ port }) => serveWithFileWatcher(directory, port) })
    keepSet(stand.place.target, directory)
    await stand.start()
    await stand.rotate()
    const isRefused = async (): Promise<boolean> =>
      (await clientMakes['grpc-js'].talk(stand.set('client', 'new'), stand.place.port, http2)) !== null

    await expect.poll(isRefused, { timeout: 20_000 }).toBe(false)
    // What a reader gets that opens one file before a swap and the other after it.
    copyFileSync(join(stand.place.target, 'tls.crt'), join(directory, 'tls.crt'))
    await expect.poll(isRefused, { timeout: 20_000 }).toBe(true)
    copyFileSync(join(stand.place.target, 'tls.key'), join(directory, 'tls.key'))
    await expect.poll(isRefused, { timeout: 20_000 }).toBe(false)
  })

  async function serveWithFileWatcher(set: SetDirectory, port: number): Promise<RunningServer> {
    const provider = new grpc.experimental.FileWatcherCertificateProvider({
      caCertificateFile: join(set, 'ca.crt'),
      certificateFile: join(set, 'tls.crt'),
      privateKeyFile: join(set, 'tls.key'),
      refreshIntervalMs: 20,
    })
    const credentials = grpc.experimental.createCertificateProviderServerCredentials(provider, provider, true)
    const pass = (message: Buffer): Buffer => message
    const codec = {
      requestSerialize: pass,
      requestDeserialize: pass,
      responseSerialize: pass,
      responseDeserialize: pass,
    }
    const echo = (call: { request: Buffer }, reply: grpc.sendUnaryData<Buffer>): void => reply(null, call.request)
    const server = new grpc.Server()
    server.addService(
      { say: { path: '/Echo/Say', requestStream: false, responseStream: false, ...codec } },
      { say: echo },
    )
    await new Promise<void>((done, fail) => {
      server.bindAsync(`127.0.0.1:${port}`, credentials, (error) => (error ? fail(error) : done()))
    })
    const stop = (): Promise<void> => {
      server.forceShutdown()
      return Promise.resolve()
    }
    return { port, log: () => '', stop }
  }
})
