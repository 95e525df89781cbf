import { Duplex } from 'node:stream'
import { connect, createSecureContext, createServer } from 'node:tls'
import type { SecureVersion, TLSSocket } from 'node:tls'

/** One end of a handshake: what it presents and whom it trusts. PEM, the exact octets that a service would load. */
export interface Peer {
  /** null: a client that presents no certificate. */
  readonly identity: {
    readonly chain: string | Buffer
    readonly key: string | Buffer
  } | null
  /** The trust anchors it verifies the other end with; null: it does not verify. */
  readonly bundle: string | Buffer | null
}

export interface HandshakeResult {
  readonly ok: boolean
  /** OpenSSL's word for why the client refused the server, such as `CERT_HAS_EXPIRED`; null when it did not. */
  readonly serverRefused: string | null
  /** OpenSSL's word for why the server refused the client; null when it did not, or did not ask. */
  readonly clientRefused: string | null
  /** What ended the handshake before either end could judge the other. */
  readonly failure: string | null
}

/**
 * A real TLS handshake between two ends in memory, no socket involved; mutual when the server has a bundle and the
 * client an identity. Host names are not compared: trust is what is tried here. Both ends are always let to judge, so
 * that the result tells of both. Validity is judged by the process's clock, for OpenSSL has no other.
 */
export async function handshake(server: Peer, client: Peer, version?: SecureVersion): Promise<HandshakeResult> {
  const tooLarge = [server, client].map(excessOf).find((excess) => excess !== null)
  if (tooLarge !== undefined) return failed(tooLarge)
  const versions = version === undefined ? {} : { minVersion: version, maxVersion: version }
  try {
    const clientContext = createSecureContext({ ...versions, ...contextOptions(client) })
    const requestCert = server.bundle !== null && client.identity !== null
    const listener = createServer({ ...versions, ...contextOptions(server), requestCert, rejectUnauthorized: false })
    return await new Promise((resolve, reject) => {
      const [serverEnd, clientEnd] = duplexPair()
      const socket = connect({
        socket: clientEnd,
        secureContext: clientContext,
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
      })
      let accepted: TLSSocket | null = null
      const settle = (finish: () => void): void => {
        socket.destroy()
        accepted?.destroy()
        finish()
      }
      const judge = (): void => {
        if (!accepted || !socket.getProtocol() || socket.connecting || !connected) return
        const serverRefused = client.bundle === null ? null : verdict(socket)
        const clientRefused = requestCert ? verdict(accepted) : null
        settle(() => {
          resolve({ ok: !serverRefused && !clientRefused, serverRefused, clientRefused, failure: null })
        })
      }
      let connected = false
      const fail = (error: Error): void => {
        settle(() => {
          reject(error)
        })
      }
      listener.once('secureConnection', (tlsSocket) => {
        accepted = tlsSocket
        tlsSocket.on('error', fail)
        judge()
      })
      listener.once('tlsClientError', fail)
      socket.once('error', fail)
      socket.once('secureConnect', () => {
        connected = true
        judge()
      })
      socket.once('close', () => {
        fail(new Error('the connection was closed'))
      })
      listener.emit('connection', serverEnd)
    })
  } catch (error) {
    return failed(describeFailure(error))
  }
}

function failed(failure: string): HandshakeResult {
  return { ok: false, serverRefused: null, clientRefused: null, failure }
}

/**
 * More than any peer takes: OpenSSL refuses a chain of more than 100 KB, and cannot ask for a client's certificate where
 * the names of its anchors are more than 64 KB. It sorts its anchors anew for each that it loads, so that 10,000 of them
 * take a quarter of a minute.
 */
const mostCertificates = 1000

function excessOf({ identity, bundle }: Peer): string | null {
  if (identity && countBlocks(identity.chain) > mostCertificates) return `a chain of more than ${mostCertificates}`
  if (bundle && countBlocks(bundle) > mostCertificates) return `a bundle of more than ${mostCertificates}`
  return null
}

function countBlocks(pem: string | Buffer): number {
  const begin = '-----BEGIN '
  let count = 0
  for (let at = pem.indexOf(begin); at !== -1; at = pem.indexOf(begin, at + begin.length)) count += 1
  return count
}

function contextOptions(peer: Peer): object {
  return {
    ...(peer.identity ? { cert: peer.identity.chain, key: peer.identity.key } : {}),
    // An empty or missing `ca` would mean the public roots.
    ...(peer.bundle === null ? {} : { ca: peer.bundle }),
  }
}

function verdict(socket: TLSSocket): string | null {
  // Typed as an Error, yet Node sets OpenSSL's code as a string.
  const reason = socket.authorizationError as Error | string | null
  if (socket.authorized) return null
  return reason === null ? 'no certificate' : String(reason)
}

/** OpenSSL's code is enough, and never holds key material as a message might. */
function describeFailure(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return error instanceof Error ? error.message : String(error)
}

/** Two streams, each of which reads what the other is written. node:stream has one of its own only since 22.6. */
function duplexPair(): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read() {
        // Data is pushed as it comes: a handshake is a few kilobytes.
      },
      write(chunk, _encoding, done) {
        other().push(chunk)
        done()
      },
      final(done) {
        other().push(null)
        done()
      },
    })
  const one: Duplex = make(() => two)
  const two: Duplex = make(() => one)
  return [one, two]
}
