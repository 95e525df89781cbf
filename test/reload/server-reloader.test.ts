import { once } from 'node:events'
import { rm, mkdtemp, writeFile } from 'node:fs/promises'
import { connect as connectHttp2, createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { join } from 'node:path'
import { connect, createServer } from 'node:tls'
import type { Server, TlsOptions } from 'node:tls'
import { inspect } from 'node:util'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CertgenError } from '../../src/errors.ts'
import type { Authority } from '../../src/pki/authority.ts'
import { ServerReloader, prometheusText, toOcsf } from '../../src/reload/index.ts'
import type { FailedEvent, ReloadedEvent } from '../../src/reload/index.ts'
import { temporaryDirectory } from '../program.ts'
import { Issuer } from './issuer.ts'
import type { IssuedSet } from './issuer.ts'
import { greet, leafOf, listen, next, quick, served, shake, writePlain } from './peers.ts'

const scratch = temporaryDirectory()
const issuer = new Issuer()
let authority: Authority
let first: IssuedSet
let second: IssuedSet
let directory = ''
let reloaders: ServerReloader[] = []
let servers: Server[] = []

beforeAll(async () => {
  authority = await issuer.authority()
  first = await issuer.set(authority)
  second = await issuer.set(authority)
})

beforeEach(async () => {
  directory = await mkdtemp(join(scratch, 'set-'))
  await writePlain(directory, first)
})

afterEach(async () => {
  await Promise.all(reloaders.map((reloader) => reloader.close()))
  for (const server of servers) server.close()
  reloaders = []
  servers = []
})

async function start(options: Parameters<typeof ServerReloader.start>[1] = quick): Promise<ServerReloader> {
  const reloader = await ServerReloader.start(directory, options)
  reloaders.push(reloader)
  return reloader
}

function track<T extends Server>(server: T): T {
  servers.push(server)
  return server
}

/** Writes, and waits until the set is in use. */
async function swap(reloader: ServerReloader, set: IssuedSet): Promise<ReloadedEvent> {
  const event = reloadedTo(reloader, set.leaf)
  await writePlain(directory, set)
  return event
}

async function reloadedTo(reloader: ServerReloader, leaf: string): Promise<ReloadedEvent> {
  for (;;) {
    const event = await next<ReloadedEvent>(reloader, 'reloaded')
    if (event.new.leaf?.sha256 === leaf) return event
  }
}

const client = (): { ca: Buffer } => ({ ca: first.ca })
const mutual = (): { ca: Buffer; cert: Buffer; key: Buffer } => ({ ca: first.ca, cert: first.cert, key: first.key })

async function refusal(promise: Promise<unknown>): Promise<CertgenError> {
  const error: unknown = await promise.catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(CertgenError)
  return error as CertgenError
}

describe('the start', () => {
  it('is refused where the set cannot be used, with the findings', async () => {
    await writeFile(join(directory, 'tls.key'), second.key)
    const error = await refusal(ServerReloader.start(directory, quick))
    expect(error.code).toBe('unusable')
    expect(error.findings.map(({ code }) => code)).toEqual(['key-mismatch'])
  })

  it('is refused where there is nothing', async () => {
    const error = await refusal(ServerReloader.start(join(directory, 'nothing'), quick))
    expect(error.code).toBe('unreadable')
  })

  it('reads other file names', async () => {
    await writeFile(join(directory, 'server.pem'), second.cert)
    await writeFile(join(directory, 'server.key'), second.key)
    const reloader = await start({ ...quick, files: { cert: 'server.pem', key: 'server.key' } })
    expect(reloader.current.leaf?.sha256).toBe(second.leaf)
  })

  it('refuses a debounce or a poll that makes no sense', async () => {
    expect((await refusal(ServerReloader.start(directory, { poll: 0 }))).code).toBe('usage')
  })
})

describe('what is told of a set', () => {
  it('are fingerprints and dates, old and new, and never the key', async () => {
    const reloader = await start()
    const event = await swap(reloader, second)
    expect(event).toMatchObject({ type: 'reloaded', trigger: 'event', changed: ['leaf', 'key'] })
    expect(event.old.leaf?.sha256).toBe(first.leaf)
    expect(event.new.leaf?.sha256).toBe(second.leaf)
    expect(event.milliseconds).toBeGreaterThanOrEqual(quick.debounce - 1)
    expect(reloader.current).toEqual(event.new)
    const everything = [event, reloader.current, reloader, toOcsf(event)]
    for (const secret of [first.key, second.key]) {
      const [, line = ''] = secret.toString().split('\n')
      expect(everything.map((thing) => inspect(thing, { depth: 9, showHidden: true })).join()).not.toContain(line)
      expect(JSON.stringify([event, reloader.current, toOcsf(event)])).not.toContain(line)
    }
  })

  it('is counted for Prometheus', async () => {
    const reloader = await start()
    // Written in place, a set may be read half-way and refused more than once: what counts is that each is counted.
    const told: FailedEvent[] = []
    reloader.on('failed', (event) => told.push(event))
    const failed = next(reloader, 'failed')
    await writeFile(join(directory, 'tls.key'), second.key)
    await failed
    await swap(reloader, second)
    const text = prometheusText([reloader.counters])
    expect(text).toContain(`reload_total{directory="${directory}",result="success"} 1\n`)
    expect(text).toContain(`reload_total{directory="${directory}",result="failure"} ${told.length}\n`)
    expect(text).toMatch(/reload_last_success_timestamp_seconds\{directory=".*"\} \d{10}(\.\d+)?\n$/)
  })

  it('has an OCSF form with what its class requires', async () => {
    const reloader = await start()
    const failed = next<FailedEvent>(reloader, 'failed')
    await writeFile(join(directory, 'tls.crt'), '')
    const bad = toOcsf(await failed, { hostname: 'host' })
    const good = toOcsf(await swap(reloader, second), { hostname: 'host' })
    for (const event of [bad, good]) {
      expect(event).toMatchObject({
        activity_id: 1,
        category_uid: 5,
        class_uid: 5019,
        type_uid: 501901,
        metadata: { version: '1.3.0', product: { name: 'certgen', vendor_name: 'certgen' } },
        device: { hostname: 'host', type_id: 0 },
      })
      expect(Number.isInteger(event.time)).toBe(true)
    }
    expect(bad).toMatchObject({ severity_id: 3, status_id: 2, status_code: 'unusable' })
    expect(good).toMatchObject({ severity_id: 1, status_id: 1 })
  })
})

describe('servers', () => {
  it('are several per reloader, of every kind', async () => {
    const reloader = await start()
    const tls = track(createServer(reloader.options(), greet))
    const https = track(createHttpsServer(reloader.options(), (_request, response) => response.end('hello')))
    const http2 = track(createSecureServer(reloader.options({ allowHTTP1: true })))
    http2.on('stream', (stream) => {
      stream.respond()
      stream.end('hello')
    })
    for (const server of [tls, https, http2]) reloader.attach(server)
    const ports = await Promise.all([tls, https, http2].map(listen))
    await swap(reloader, second)
    expect(await served(ports[0]!, client())).toBe(second.leaf)
    for (const port of ports.slice(1)) {
      const socket = connect({ host: '127.0.0.1', servername: 'localhost', port, ...client() })
      await once(socket, 'secureConnect')
      expect(leafOf(socket)).toBe(second.leaf)
      socket.destroy()
    }
    const session = connectHttp2(`https://localhost:${ports[2]!}`, client())
    const stream = session.request({ ':path': '/' })
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    expect(headers[':status']).toBe(200)
    session.destroy()
  })

  it('get what has come into use between options() and attach()', async () => {
    const reloader = await start()
    const server = track(createServer(reloader.options({ minVersion: 'TLSv1.3' }), greet))
    await swap(reloader, second)
    reloader.attach(server)
    expect(await served(await listen(server), client())).toBe(second.leaf)
  })

  it('are attached once, however often it is asked', async () => {
    const reloader = await start()
    const server = track(createServer(reloader.options()))
    reloader.attach(server).attach(server)
    reloader.attach(server)
    expect(server.listenerCount('close')).toBe(1)
  })

  it('have one reloader at a time', async () => {
    const [reloader, other] = [await start(), await start()]
    const server = track(createServer(reloader.options()))
    reloader.attach(server)
    expect(() => other.attach(server)).toThrow(/another reloader is attached/)
    reloader.detach(server)
    other.attach(server)
    await reloader.close()
    expect(server.listenerCount('close')).toBe(1)
  })

  it('whose options are not known are refused, unless they are given', async () => {
    const reloader = await start()
    const stranger = track(createServer({ cert: first.cert, key: first.key, minVersion: 'TLSv1.3' }, greet))
    expect(() => reloader.attach(stranger)).toThrow(/was not made with the options/)
    reloader.attach(stranger, { tls: { minVersion: 'TLSv1.3' } })
    await swap(reloader, second)
    const port = await listen(stranger)
    expect(await served(port, client())).toBe(second.leaf)
    await expect(shake(port, { ...client(), maxVersion: 'TLSv1.2' })).rejects.toThrow()
  })

  it('are let go of when they close', async () => {
    const reloader = await start()
    const server = track(createServer(reloader.options()))
    reloader.attach(server)
    await listen(server)
    server.close()
    await once(server, 'close')
    reloader.attach(server)
    expect(server.listenerCount('close')).toBe(1)
  })

  it('keep connections that are open, and handshakes that have begun', async () => {
    const reloader = await start()
    const server = track(createServer(reloader.options({ requestCert: true }), (socket) => socket.pipe(socket)))
    reloader.attach(server)
    const port = await listen(server)
    const open = connect({ host: '127.0.0.1', servername: 'localhost', port, ...mutual() })
    await once(open, 'secureConnect')
    await swap(reloader, second)
    open.write('still here')
    const [echo] = (await once(open, 'data')) as [Buffer]
    expect(echo.toString()).toBe('still here')
    expect(leafOf(open)).toBe(first.leaf)
    open.destroy()
  })
})

describe('other TLS options', () => {
  it('are kept over every swap: versions, client certificates, protocols, session tickets', async () => {
    const reloader = await start()
    const options: TlsOptions = {
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['acme'],
      ticketKeys: randomBytes(48),
    }
    const server = track(createServer(reloader.options(options), greet))
    reloader.attach(server)
    const port = await listen(server)
    for (const set of [second, first, second]) {
      await swap(reloader, set)
      const socket = await shake(port, { ...mutual(), ALPNProtocols: ['acme'] })
      expect([socket.alpnProtocol, socket.getProtocol(), leafOf(socket)]).toEqual(['acme', 'TLSv1.3', set.leaf])
      socket.destroy()
      await expect(shake(port, { ...mutual(), maxVersion: 'TLSv1.2' })).rejects.toThrow()
      await expect(shake(port, client())).rejects.toThrow()
    }
  })

  it('keep a ca of your own for the clients', async () => {
    const clients = await issuer.authority()
    const visitor = await issuer.set(clients)
    const reloader = await start()
    const server = track(createServer(reloader.options({ requestCert: true, ca: visitor.ca }), greet))
    reloader.attach(server)
    const port = await listen(server)
    await swap(reloader, second)
    expect(await served(port, { ca: first.ca, cert: visitor.cert, key: visitor.key })).toBe(second.leaf)
    await expect(shake(port, mutual())).rejects.toThrow()
  })

  it('never let the public roots judge a client', async () => {
    await rm(join(directory, 'ca.crt'))
    const reloader = await start()
    expect(() => reloader.options({ requestCert: true })).toThrow(/public roots/)
    expect(() => reloader.options({ requestCert: true, ca: '' })).toThrow(/public roots/)
    expect(() => reloader.options({ pfx: first.key })).toThrow(/pfx/)
    expect(reloader.options().cert).toEqual(first.cert)
  })

  it('serve a name of its own to clients that ask for it, kept over every swap', async () => {
    const reloader = await start()
    const other = await mkdtemp(join(scratch, 'name-'))
    const sets = [
      await issuer.set(authority, { names: ['a.test'] }),
      await issuer.set(authority, { names: ['a.test'] }),
    ]
    await writePlain(other, sets[0]!)
    const named = await ServerReloader.start(other, quick)
    reloaders.push(named)
    const server = track(createServer(reloader.options({ minVersion: 'TLSv1.3' }), greet))
    reloader.attach(server)
    named.attach(server, { servername: '*.test' })
    named.attach(server, { servername: '*.test' })
    const port = await listen(server)
    const ask = (servername: string): Promise<string> => served(port, { ...client(), servername })
    expect([await ask('localhost'), await ask('a.test')]).toEqual([first.leaf, sets[0]!.leaf])
    await swap(reloader, second)
    expect([await ask('localhost'), await ask('a.test')]).toEqual([second.leaf, sets[0]!.leaf])
    for (const set of [sets[1]!, sets[0]!, sets[1]!]) {
      const event = reloadedTo(named, set.leaf)
      await writePlain(other, set)
      await event
      expect([await ask('localhost'), await ask('a.test')]).toEqual([second.leaf, set.leaf])
    }
    await expect(shake(port, { ...client(), servername: 'a.test', maxVersion: 'TLSv1.2' })).rejects.toThrow()
    // Node has no way to remove a context, and would keep every one that was ever added.
    expect(Reflect.get(server, '_contexts')).toHaveLength(1)
  })
})

describe('sessions', () => {
  const resumed = async (port: number, options: object, session: Buffer): Promise<boolean> => {
    const socket = await shake(port, { ...options, session })
    const reused = socket.isSessionReused()
    socket.destroy()
    return reused
  }
  const sessionOf = async (port: number, options: object): Promise<Buffer> => {
    const socket = connect({ host: '127.0.0.1', servername: 'localhost', port, ...options })
    const [session] = (await once(socket, 'session')) as [Buffer]
    socket.destroy()
    return session
  }

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'resume across a swap, but not once trust has shrunk (%s)',
    async (version) => {
      const newcomer = await issuer.authority()
      const both = await issuer.set(newcomer, {
        bundle: [newcomer.certificate, authority.certificate],
        cross: [await issuer.cross(newcomer, authority)],
      })
      const shrunk = await issuer.set(newcomer)
      const reloader = await start()
      const options = { requestCert: true, ticketKeys: randomBytes(48), maxVersion: version }
      const server = track(createServer(reloader.options(options), greet))
      reloader.attach(server)
      const port = await listen(server)
      const old = { ...mutual(), rejectUnauthorized: false }
      let session = await sessionOf(port, old)
      await swap(reloader, both)
      expect(await resumed(port, old, session)).toBe(true)
      session = await sessionOf(port, old)
      const event = await swap(reloader, shrunk)
      expect(event.changed).toContain('bundle')
      // The old client's CA is gone: without a new handshake it would still be let in.
      await expect(resumed(port, old, session)).rejects.toThrow()
    },
  )
})

describe('the switch', () => {
  it('leaves everything as it is while it is off, and catches up when it is on again', async () => {
    const reloader = await start({ debounce: 1, poll: 5 })
    reloader.pause()
    await writePlain(directory, second)
    // As many turns as a poll and a debounce would have taken several times over.
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 2))
    expect(reloader.current.leaf?.sha256).toBe(first.leaf)
    const event = next<ReloadedEvent>(reloader, 'reloaded')
    reloader.resume()
    expect(await event).toMatchObject({ trigger: 'start', new: { leaf: { sha256: second.leaf } } })
  })

  it('is off for good once it is closed, and the server goes on', async () => {
    const reloader = await start({ debounce: 1, poll: 5 })
    const server = track(createServer(reloader.options(), greet))
    reloader.attach(server)
    const port = await listen(server)
    reloader.on('reloaded', () => expect.fail('closed'))
    await reloader.close()
    await reloader.close()
    await writePlain(directory, second)
    expect(await served(port, client())).toBe(first.leaf)
    expect(server.listenerCount('close')).toBe(0)
  })
})
