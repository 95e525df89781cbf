import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect, createServer } from 'node:tls'
import type { SecureContextOptions, Server } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { handshake } from '../../src/pki/handshake.ts'
import type { RotationRequest } from '../../src/rotation/request.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { temporaryDirectory } from '../program.ts'
import { loadSet, namedLeaf, reasonOf, requestFor } from './fleet.ts'
import type { Service } from './fleet.ts'
import { Random } from '../random.ts'

// Acceptance 2 of issue 3. Time is virtual: what a second of convergence means is in which order the peers load the
// change and meet each other, and that order is drawn at random, so that nobody has to wait for it.

/** The whole storm is for `npm run test:storm`; the reduced one keeps `npm test` short. */
const full = process.env['CERTGEN_FULL_STORM'] === '1'
const whole: Size = { rotations: 50, handshakesEach: 400 }
const sizes = {
  'cross-sign': full ? whole : { rotations: 10, handshakesEach: 200 },
  replace: full ? whole : { rotations: 4, handshakesEach: 100 },
} as const
/** Of the handshakes of a rotation, those that may come before all of it is written. */
const duringWritesShare = 0.25
const clientCount = 8
/** Of the handshakes, those that go through the loopback and exchange data. */
const socketShare = 0.1

interface Size {
  readonly rotations: number
  readonly handshakesEach: number
}

interface Tally {
  handshakes: number
  overSockets: number
  duringWrites: number
  failed: number
  readonly reasons: Map<string, number>
}

/** A server and its clients, each with the set that it loaded last. */
class Peers {
  readonly tally: Tally = { handshakes: 0, overSockets: 0, duringWrites: 0, failed: 0, reasons: new Map() }
  readonly #targets: readonly string[]
  readonly #loaded: Service[]
  readonly #listener: Server
  readonly #random: Random

  private constructor(targets: readonly string[], random: Random) {
    this.#targets = targets
    this.#random = random
    this.#loaded = targets.map(loadSet)
    this.#listener = createServer(
      { ...contextOf(this.#server), requestCert: true, rejectUnauthorized: true },
      (socket) => {
        socket.on('error', () => socket.destroy())
        socket.end('welcome')
      },
    )
    this.#listener.on('tlsClientError', (_error, socket) => socket.destroy())
  }

  /** The first peer is the server. */
  static async start(targets: readonly string[], random: Random): Promise<Peers> {
    const peers = new Peers(targets, random)
    peers.#listener.listen(0, '127.0.0.1')
    await once(peers.#listener, 'listening')
    return peers
  }

  async stop(): Promise<void> {
    this.#listener.close()
    await once(this.#listener, 'close')
  }

  get #server(): Service {
    return this.#loaded[0]!
  }

  reload(index: number): void {
    this.#loaded[index] = loadSet(this.#targets[index]!)
    if (index === 0) this.#listener.setSecureContext(contextOf(this.#server))
  }

  get everyone(): number[] {
    return [...this.#targets.keys()]
  }

  /** One handshake of the server with a client that is drawn by lot. */
  async meet(): Promise<void> {
    const client = this.#random.pick(this.#loaded.slice(1))
    this.tally.handshakes++
    const throughSocket = this.#random.next() < socketShare
    if (throughSocket) this.tally.overSockets++
    const failure = throughSocket ? await this.#connect(client) : await shake(this.#server, client)
    if (failure === null) return
    this.tally.failed++
    this.tally.reasons.set(failure, (this.tally.reasons.get(failure) ?? 0) + 1)
  }

  /** Data, not the handshake alone: by TLS 1.3 a client hears only then that it was refused. */
  #connect(client: Service): Promise<string | null> {
    const { port } = this.#listener.address() as AddressInfo
    return new Promise((done) => {
      const socket = connect({ ...contextOf(client), host: '127.0.0.1', port, servername: 'localhost' })
      let received = ''
      socket.on('data', (data: Buffer) => (received += data.toString()))
      socket.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
      socket.on('close', () => done(received === 'welcome' ? null : 'the connection was closed'))
    })
  }
}

async function shake(server: Service, client: Service): Promise<string | null> {
  const result = await handshake(server, client)
  return result.ok ? null : reasonOf(result)
}

function contextOf({ identity, bundle }: Service): SecureContextOptions {
  return { cert: identity.chain, key: identity.key, ca: bundle }
}

/** Rotates again and again, each time after all peers have loaded the last change. */
async function storm(size: Size, changes: Partial<RotationRequest>, seed: number): Promise<Tally> {
  const dir = join(temporaryDirectory(), 'certs')
  const random = new Random(seed)
  const names = ['server', 'client-ecdsa', 'client-rsa']
  const keyTypes = ['ecdsa-p256', 'ecdsa-p256', 'rsa-2048'] as const
  for (const [index, name] of names.entries()) {
    const leaf = { ...namedLeaf(dir, name), keyType: keyTypes[index]! }
    await rotate(requestFor(dir, { leaves: [leaf] }), () => new Date())
  }
  const [server = '', ...clients] = names.map((name) => join(dir, name))
  const targets = [server, ...Array.from({ length: clientCount }, (_, index) => clients[index % clients.length]!)]
  const peers = await Peers.start(targets, random)
  for (let rotation = 0; rotation < size.rotations; rotation++)
    await rotateAmid(peers, requestFor(dir, { mode: 'overwrite', ...changes }), size.handshakesEach, random)
  await peers.stop()
  return peers.tally
}

/** One rotation: peers meet and reload while it is written, and then until all of them have loaded it. */
async function rotateAmid(peers: Peers, request: RotationRequest, handshakes: number, random: Random): Promise<void> {
  const { tally } = peers
  const end = tally.handshakes + handshakes
  const lastDuringWrites = tally.handshakes + handshakes * duringWritesShare
  const writing = { done: false }
  const rotation = rotate(request, () => new Date()).finally(() => {
    writing.done = true
  })
  while (!writing.done && tally.handshakes < lastDuringWrites) {
    if (random.next() < 0.2) peers.reload(random.pick(peers.everyone))
    await peers.meet()
    tally.duringWrites++
  }
  expect((await rotation).changed).toBe(true)
  const left = end - tally.handshakes
  const moments = peers.everyone.map((peer) => ({ peer, at: random.below(left) }))
  for (let moment = 0; moment < left; moment++) {
    for (const { peer } of moments.filter(({ at }) => at === moment)) peers.reload(peer)
    await peers.meet()
  }
}

/** How either end says that it does not trust the other, or is not trusted by it. */
const refusals = /SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|ERR_SSL_TLSV1_ALERT_UNKNOWN_CA|ECONNRESET|EPIPE|closed/

describe('a storm of rotations', { timeout: 900_000 }, () => {
  const total = ({ rotations, handshakesEach }: Size): number => rotations * handshakesEach

  it('fails no handshake, in whatever order the peers load each change (I2)', async () => {
    const tally = await storm(sizes['cross-sign'], {}, 20_260_728)
    if (full) process.stderr.write(`\nstorm, cross-sign: ${JSON.stringify({ ...tally, reasons: undefined })}\n`)
    expect([...tally.reasons]).toEqual([])
    expect(tally.failed).toBe(0)
    expect(tally.handshakes).toBe(total(sizes['cross-sign']))
    expect(tally.overSockets).toBeGreaterThan(total(sizes['cross-sign']) * socketShare * 0.7)
    expect(tally.duringWrites).toBeGreaterThan(0)
  })

  it('fails some with --strategy replace --force, so that it is known to be able to', async () => {
    const tally = await storm(sizes.replace, { strategy: 'replace', force: true }, 20_260_728)
    if (full) {
      process.stderr.write(`\nstorm, replace: ${JSON.stringify({ ...tally, reasons: [...tally.reasons] })}\n`)
    }
    expect(tally.handshakes).toBe(total(sizes.replace))
    expect(tally.failed).toBeGreaterThan(0)
    for (const reason of tally.reasons.keys()) expect(reason).toMatch(refusals)
  })
})
