import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect as connectPlain, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { checkServerIdentity, connect } from 'node:tls'
import type { ConnectionOptions, DetailedPeerCertificate, TLSSocket } from 'node:tls'
import { CertgenError } from '../errors.ts'
import { readCertificate } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { isValidAt } from '../pki/lifetime.ts'

export const startTlsProtocols = ['smtp', 'postgres'] as const
export type StartTls = (typeof startTlsProtocols)[number]

/** Reads `HOST:PORT`, an IPv6 address in brackets. Throws CertgenError `usage`. */
export function parseEndpoint(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain
  if (host !== undefined && Number(port) > 0 && Number(port) < 65_536) return { host, port: Number(port) }
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a host and a port`, {
    hints: ['write localhost:8443, 10.0.0.1:8443 or [::1]:8443'],
  })
}

/** What a target holds, to compare with what is served. */
export interface Expectation {
  readonly chain: readonly Certificate[]
  /** What was served before; to tell the old leaf from a foreign one. */
  readonly previousLeaf: Certificate | null
  /** Presented where the server asks for a client certificate; null: none. */
  readonly identity: { readonly cert: Buffer; readonly key: Buffer } | null
}

export interface ProbeRequest {
  readonly host: string
  readonly port: number
  /** For SNI, and the name that the leaf must hold. Default: `host`. */
  readonly servername?: string
  readonly startTls?: StartTls
  /** What the chain is verified with: the current root first, then the carry-over. Empty: it is not verified. */
  readonly bundle: readonly Certificate[]
  readonly expect: Expectation | null
  /** Milliseconds for one handshake, name resolution included. */
  readonly timeout: number
}

/** `old-leaf` is the previous generation's, `other-leaf` one that the target never held as far as can be seen. */
export type ProbeCode =
  | 'unreachable'
  | 'old-leaf'
  | 'other-leaf'
  | 'chain-incomplete'
  | 'chain-differs'
  | 'untrusted'
  | 'name-mismatch'
  | 'expired'
  | 'not-yet-valid'

export interface ProbeFinding {
  readonly code: ProbeCode
  readonly detail: string
}

/** What one root, or the bundle as a whole, says of the chain that is served. */
export interface Trust {
  readonly by: 'bundle' | 'current' | 'carry-over'
  readonly ok: boolean
  /** OpenSSL's word, such as `CERT_HAS_EXPIRED`. */
  readonly reason: string | null
}

/** What is served at one address. */
export interface Endpoint {
  readonly address: string
  readonly port: number
  /** null when no handshake came about. */
  readonly protocol: string | null
  /** Leaf first. */
  readonly chain: readonly Certificate[]
  readonly trust: readonly Trust[]
  readonly findings: readonly ProbeFinding[]
}

export interface ProbeReport {
  readonly ok: boolean
  readonly endpoints: readonly Endpoint[]
}

/**
 * Connects afresh to every address that the host resolves to, resuming no session, and tells what is served there. What
 * is wrong is in the findings; throws only what is a bug. `at` judges dates where there is no bundle to verify with.
 */
async function probe(request: ProbeRequest, at: Date): Promise<ProbeReport> {
  const { host, port } = request
  const unresolved = (error: unknown): Endpoint[] => [unreachable(host, port, error)]
  const endpoints = await lookup(host, { all: true }).then(
    (addresses) => Promise.all(addresses.map(({ address }) => probeAddress(request, address, at))),
    unresolved,
  )
  return { ok: endpoints.every(({ findings }) => findings.length === 0), endpoints }
}

/** Probes until all is well, or until `limit` milliseconds have passed; the report is the last one. */
export async function probeUntil(request: ProbeRequest, limit: number, clock: () => Date): Promise<ProbeReport> {
  const end = performance.now() + limit
  for (let pause = 100; ; pause = Math.min(pause * 2, 2000)) {
    const report = await probe(request, clock())
    const left = end - performance.now()
    if (report.ok || left <= 0) return report
    await wait(Math.min(pause, left))
  }
}

async function probeAddress(request: ProbeRequest, address: string, at: Date): Promise<Endpoint> {
  const { bundle } = request
  try {
    // Without any root, so that nothing of our own gets into the chain.
    const { protocol, chain, peer } = await look(request, address, [])
    const tries: [Trust['by'], readonly Certificate[]][] = [
      ['bundle', bundle],
      ['current', bundle.slice(0, 1)],
      ['carry-over', bundle.slice(1, 2)],
    ]
    const trust: Trust[] = []
    for (const [by, roots] of tries) {
      if (roots.length === 0) continue
      const { reason } = await look(request, address, roots)
      trust.push({ by, ok: reason === null, reason })
    }
    const findings = [
      ...compare(request.expect, chain, bundle),
      ...judgeTrust(trust, chain, at),
      ...judgeName(request.servername ?? request.host, peer),
    ]
    return { address, port: request.port, protocol, chain, trust, findings }
  } catch (error) {
    return unreachable(address, request.port, error)
  }
}

function unreachable(address: string, port: number, error: unknown): Endpoint {
  const detail = error instanceof Error ? error.message || String((error as NodeJS.ErrnoException).code) : String(error)
  return { address, port, protocol: null, chain: [], trust: [], findings: [{ code: 'unreachable', detail }] }
}

function compare(
  expect: Expectation | null,
  chain: readonly Certificate[],
  bundle: readonly Certificate[],
): ProbeFinding[] {
  const [leaf, wanted] = [chain[0], expect?.chain[0]]
  if (!expect || !leaf || !wanted) return []
  if (leaf.sha256 !== wanted.sha256) {
    const code = leaf.sha256 === expect.previousLeaf?.sha256 ? 'old-leaf' : 'other-leaf'
    return [{ code, detail: `${leaf.sha256} is served, not ${wanted.sha256}` }]
  }
  const served = chain.map(({ sha256 }) => sha256)
  const absent = expect.chain.filter(({ sha256 }) => !served.includes(sha256))
  const [first] = absent
  if (first) return [{ code: 'chain-incomplete', detail: `${first.subject} (issued by ${first.issuer}) is not sent` }]
  // OpenSSL completes a chain that is a leaf alone from the server's own trust, and a root may be sent (RFC 8446 4.4.2).
  const known = new Set([...expect.chain, ...bundle].map(({ sha256 }) => sha256))
  const surplus = chain.find(({ sha256 }) => !known.has(sha256))
  if (!surplus) return []
  return [{ code: 'chain-differs', detail: `${surplus.subject} (issued by ${surplus.issuer}) is sent as well` }]
}

function judgeTrust(trust: readonly Trust[], [leaf]: readonly Certificate[], at: Date): ProbeFinding[] {
  const [bundle] = trust
  if (bundle) return bundle.ok ? [] : [{ code: 'untrusted', detail: bundle.reason ?? '' }]
  if (!leaf || isValidAt(leaf, at)) return []
  return at < leaf.notBefore
    ? [{ code: 'not-yet-valid', detail: `before ${leaf.notBefore.toISOString()}` }]
    : [{ code: 'expired', detail: `since ${leaf.notAfter.toISOString()}` }]
}

function judgeName(name: string, peer: DetailedPeerCertificate): ProbeFinding[] {
  const mismatch = checkServerIdentity(name, peer)
  return mismatch ? [{ code: 'name-mismatch', detail: `the certificate is not for ${name}` }] : []
}

interface Look {
  readonly protocol: string | null
  readonly chain: readonly Certificate[]
  readonly peer: DetailedPeerCertificate
  /** Why the roots do not verify the chain; null when they do. */
  readonly reason: string | null
}

/** One handshake. Throws when there is none. */
async function look(request: ProbeRequest, address: string, roots: readonly Certificate[]): Promise<Look> {
  const { port, servername = request.host, expect, timeout } = request
  const signal = AbortSignal.timeout(timeout)
  const plain = connectPlain({ host: address, port })
  // A server may close on us after the handshake; what counts has been seen by then.
  plain.on('error', () => undefined)
  const options: ConnectionOptions = {
    socket: plain,
    ca: roots.map(({ x509 }) => x509.toString()),
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    ...(isIP(servername) === 0 ? { servername } : {}),
    ...(expect?.identity ?? {}),
  }
  try {
    await once(plain, 'connect', { signal })
    if (request.startTls) await startTls[request.startTls](plain, signal)
    const socket = connect(options)
    try {
      await once(socket, 'secureConnect', { signal })
      const peer = socket.getPeerCertificate(true)
      const protocol = socket.getProtocol()
      await endPolitely(socket)
      return { protocol, chain: chainOf(peer), peer, reason: reasonOf(socket) }
    } finally {
      socket.on('error', () => undefined)
      socket.destroy()
    }
  } catch (error) {
    throw signal.aborted ? new Error(`no answer within ${timeout / 1000} s`, { cause: error }) : error
  } finally {
    plain.destroy()
  }
}

/** Sends what is left of the handshake, so that the server does not log a connection that was reset. */
function endPolitely(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => undefined)
    socket.end(() => resolve())
  })
}

function reasonOf(socket: TLSSocket): string | null {
  if (socket.authorized) return null
  // Typed as an Error, yet Node sets OpenSSL's code as a string.
  return String(socket.authorizationError)
}

function chainOf(leaf: DetailedPeerCertificate): Certificate[] {
  const chain: Certificate[] = []
  const seen = new Set<string>()
  // The last one names itself as its issuer when it is a root, and none otherwise.
  const issuerOf = (peer: DetailedPeerCertificate): DetailedPeerCertificate | undefined => peer.issuerCertificate
  for (let at: DetailedPeerCertificate | undefined = leaf; at && !seen.has(at.fingerprint256); at = issuerOf(at)) {
    seen.add(at.fingerprint256)
    chain.push(readCertificate(at.raw))
  }
  return chain
}

/** Asks in the clear for TLS; throws when the server does not offer it. */
const startTls: Readonly<Record<StartTls, (socket: Socket, signal: AbortSignal) => Promise<void>>> = {
  /** RFC 3207. */
  smtp: async (socket, signal) => {
    await smtpReply(socket, '220', signal)
    socket.write('EHLO certgen.invalid\r\n')
    await smtpReply(socket, '250', signal)
    socket.write('STARTTLS\r\n')
    await smtpReply(socket, '220', signal)
  },
  /** SSLRequest: length 8, then 80877103 (PostgreSQL's message formats). */
  postgres: async (socket, signal) => {
    socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]))
    const answer = await readSome(socket, signal)
    if (answer.toString('latin1') !== 'S') throw new Error('the server does not offer TLS')
  },
}

/** Reads to the last line of a reply, which has a blank after its code (RFC 5321 section 4.2.1). */
async function smtpReply(socket: Socket, code: string, signal: AbortSignal): Promise<void> {
  let text = ''
  while (!/^\d{3} [^\n]*\n$/m.test(text)) text += (await readSome(socket, signal)).toString('latin1')
  if (!text.startsWith(code)) throw new Error(`the server does not offer TLS: ${text.slice(0, 3)}`)
}

async function readSome(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  for (;;) {
    const data = socket.read() as Buffer | null
    if (data) return data
    if (socket.readableEnded || socket.destroyed) throw new Error('the server closed the connection')
    await Promise.race([once(socket, 'readable', { signal }), once(socket, 'end', { signal })])
  }
}
