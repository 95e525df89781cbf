import { once } from 'node:events'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { createServer as createPlainServer } from 'node:net'
import type { Server as PlainServer } from 'node:net'
import { join } from 'node:path'
import { TLSSocket, createSecureContext, createServer } from 'node:tls'
import type { Server, TlsOptions } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../src/pki/authority.ts'
import { targetAt, writeTarget } from '../../src/store/target-store.ts'
import { certgen, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { Issuer } from '../reload/issuer.ts'
import type { IssuedSet } from '../reload/issuer.ts'
import { greet, listen } from '../reload/peers.ts'

const scratch = temporaryDirectory()
const issuer = new Issuer()
let first: IssuedSet
let second: IssuedSet
let successor: Authority
let target = ''
const closing: (() => unknown)[] = []

interface ProbeJson {
  readonly ok: boolean
  readonly endpoints: {
    readonly address: string
    readonly protocol: string | null
    readonly chain: { readonly sha256: string }[]
    readonly trust: { readonly by: string; readonly ok: boolean; readonly reason: string | null }[]
    readonly findings: { readonly code: string }[]
  }[]
}

beforeAll(async () => {
  const old = await issuer.authority()
  successor = await issuer.authority()
  first = await issuer.set(old)
  second = await issuer.set(successor, {
    bundle: [successor.certificate, old.certificate],
    cross: [await issuer.cross(successor, old)],
  })
  target = await mkdtemp(join(scratch, 'target-'))
  for (const set of [first, second]) await writeTarget(targetAt(target), set, { now: new Date() })
})

afterEach(() => {
  for (const close of closing.splice(0)) close()
})

async function serve(options: TlsOptions): Promise<{ server: Server; port: number }> {
  const server = createServer(options, greet)
  server.on('tlsClientError', () => undefined)
  closing.push(() => server.close())
  return { server, port: await listen(server) }
}

const pair = ({ cert, key }: IssuedSet): { cert: Buffer; key: Buffer } => ({ cert, key })

async function probe(port: number, ...flags: string[]): Promise<Outcome & { json: ProbeJson }> {
  const outcome = await certgen(['probe', `127.0.0.1:${port}`, '--json', ...flags])
  return { ...outcome, json: JSON.parse(outcome.stdout) as ProbeJson }
}

const codes = ({ endpoints }: ProbeJson): string[] =>
  endpoints.flatMap(({ findings }) => findings.map(({ code }) => code))

describe('certgen probe', () => {
  it('says what is served, and that it is what the target holds and every root trusts', async () => {
    const { port } = await serve({ ...pair(second), ca: second.ca, requestCert: true })
    const { code, json } = await probe(port, '--expect', target)
    expect(code).toBe(0)
    const [endpoint] = json.endpoints
    expect(endpoint).toMatchObject({ address: '127.0.0.1', protocol: 'TLSv1.3' })
    expect(endpoint?.chain.map(({ sha256 }) => sha256)).toHaveLength(2)
    expect(endpoint?.chain[0]?.sha256).toBe(second.leaf)
    expect(endpoint?.trust).toEqual([
      { by: 'bundle', ok: true, reason: null },
      { by: 'current', ok: true, reason: null },
      { by: 'carry-over', ok: true, reason: null },
    ])
    const { stdout } = await certgen(['probe', `127.0.0.1:${port}`, '--expect', target])
    expect(stdout).toContain(second.leaf)
    expect(stdout).toContain('TLSv1.3')
  })

  it('tells the old leaf from another one, and either from a chain that is not whole', async () => {
    const cases = [
      [await serve(pair(first)), 'old-leaf'],
      [await serve(pair(await issuer.set(successor))), 'other-leaf'],
      [
        await serve({ cert: second.cert.toString().split(/(?<=END CERTIFICATE-----\n)/)[0]!, key: second.key }),
        'chain-incomplete',
      ],
    ] as const
    for (const [{ port }, finding] of cases) {
      const { code, json } = await probe(port, '--expect', target)
      expect([code, codes(json)], finding).toEqual([7, [finding]])
    }
    // The cross-certificate is what a peer with the old root alone needs.
    const { json } = await probe(cases[2][0].port, '--expect', target)
    expect(json.endpoints[0]?.trust).toMatchObject([{ ok: true }, { ok: true }, { by: 'carry-over', ok: false }])
  })

  it('takes no offence at a root of the bundle behind the chain, only at other certificates', async () => {
    // OpenSSL completes a chain that is a leaf alone from what the server verifies its clients with.
    const alone = await mkdtemp(join(scratch, 'target-'))
    await writeTarget(targetAt(alone), first, { now: new Date() })
    const { port } = await serve({ ...pair(first), ca: first.ca, requestCert: true })
    const { code, json } = await probe(port, '--expect', alone)
    expect(json.endpoints[0]?.chain).toHaveLength(2)
    expect([code, codes(json)]).toEqual([0, []])

    const other = join(scratch, 'other.crt')
    await writeFile(other, (await issuer.set(await issuer.authority())).ca)
    const foreign = await probe(port, '--expect', alone, '--ca', other)
    expect([foreign.code, codes(foreign.json)]).toEqual([7, ['chain-differs', 'untrusted']])
  })

  it('tells what is unreachable, untrusted, for another name', async () => {
    const { port, server } = await serve(pair(await issuer.set(await issuer.authority(), { names: ['other.test'] })))
    const ca = join(scratch, 'ca.crt')
    await writeFile(ca, second.ca)
    expect(codes((await probe(port, '--ca', ca)).json)).toEqual(['untrusted'])
    expect(codes((await probe(port, '--servername', 'localhost')).json)).toEqual(['name-mismatch'])
    expect((await probe(port, '--servername', 'other.test')).code).toBe(0)
    server.close()
    await once(server, 'close')
    const gone = await probe(port)
    expect([gone.code, codes(gone.json)]).toEqual([7, ['unreachable']])
    expect(codes((await probe(port, '--wait', '1s')).json)).toEqual(['unreachable'])
  })

  it('probes every address of a name', async () => {
    const { port } = await serve(pair(second))
    const { stdout } = await certgen(['probe', `localhost:${port}`, '--json'])
    const { endpoints } = JSON.parse(stdout) as ProbeJson
    expect(endpoints.map(({ address }) => address)).toContain('127.0.0.1')
  })

  it('waits until the new leaf is served', async () => {
    const { port, server } = await serve(pair(first))
    // Served from the second connection on that comes in vain.
    let connections = 0
    server.on('secureConnection', () => {
      if (++connections === 8) server.setSecureContext(pair(second))
    })
    const { code, json } = await probe(port, '--expect', target, '--wait', '60s')
    expect([code, json.ok]).toEqual([0, true])
  })

  it.each(['smtp', 'postgres'] as const)('asks for TLS in the clear first: %s', async (protocol) => {
    const plain = startTlsServer(protocol, pair(second))
    closing.push(() => plain.close())
    const { code, json } = await probe(await listen(plain), '--expect', target, '--starttls', protocol)
    expect([code, json.endpoints[0]?.chain[0]?.sha256]).toEqual([0, second.leaf])
  })

  it.each(['localhost', 'localhost:0', ':443', 'localhost:http', 'a:b:443'])('refuses %s', async (endpoint) => {
    expect((await certgen(['probe', endpoint])).code).toBe(2)
  })
})

/** Speaks just enough of the protocol in the clear. */
function startTlsServer(protocol: 'smtp' | 'postgres', identity: { cert: Buffer; key: Buffer }): PlainServer {
  return createPlainServer((socket) => {
    const upgrade = (): void => {
      socket.removeAllListeners('data')
      const tls = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext(identity) })
      tls.on('error', () => undefined)
    }
    socket.on('error', () => undefined)
    if (protocol === 'smtp') socket.write('220 mail.test\r\n')
    socket.on('data', (data) => {
      if (protocol === 'postgres') {
        expect(data.toString('hex')).toBe('0000000804d2162f')
        upgrade()
        socket.write('S')
      } else if (data.toString().startsWith('EHLO ')) {
        socket.write('250-mail.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n')
      } else {
        upgrade()
        socket.write('220 go ahead\r\n')
      }
    })
  })
}
