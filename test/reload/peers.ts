import { once } from 'node:events'
import type { EventEmitter } from 'node:events'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import type { AddressInfo, Server as NetServer } from 'node:net'
import { join } from 'node:path'
import { connect } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import type { EncodedSet } from '../../src/store/target-store.ts'

/** Fast enough for tests, slow enough to bundle what one writer does. */
export const quick = { debounce: 20, poll: 100_000 } as const

/** Writes the files in place, into the directory as it is. */
export async function writePlain(directory: string, set: EncodedSet): Promise<void> {
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, 'ca.crt'), set.ca)
  await writeFile(join(directory, 'tls.crt'), set.cert)
  await writeFile(join(directory, 'tls.key'), set.key)
}

/** In one step, so that no reader sees half of it: for tests of what a single reading gives. */
export async function replaceFile(path: string, data: string | Buffer): Promise<void> {
  await writeFile(`${path}.new`, data)
  await rename(`${path}.new`, path)
}

export async function listen(server: NetServer): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** What a server under test answers with: by it a client knows that the server, too, is done with the handshake. */
export function greet(socket: TLSSocket): void {
  socket.on('error', () => undefined)
  socket.write('.')
}

/** A connection whose handshake both ends have ended; in TLS 1.3 a client is done before the server has judged it. */
export async function shake(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', servername: 'localhost', port, ...options })
  const closed = once(socket, 'close').then(() => Promise.reject(new Error('the server closed the connection')))
  await Promise.race([once(socket, 'data'), closed])
  closed.catch(() => undefined) // Later on it is the end of a connection that was good.
  return socket
}

export function leafOf(socket: TLSSocket): string {
  return socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase()
}

/** The fingerprint of the leaf that is served: SHA-256 of the DER, lower-case hexadecimal. */
export async function served(port: number, options: ConnectionOptions): Promise<string> {
  const socket = await shake(port, options)
  const leaf = leafOf(socket)
  socket.end()
  await once(socket, 'close')
  return leaf
}

/** The next event of that name. */
export async function next<T>(emitter: EventEmitter, name: string): Promise<T> {
  const [event] = (await once(emitter, name)) as [T]
  return event
}
