import { createServer } from 'node:http'
import type { Server } from 'node:http'

/**
 * What a client and a server say to each other inside TLS. In TLS 1.3 a client is done with the handshake before the
 * server has judged its certificate: only an answer proves that both accepted each other.
 */
export interface Conversation {
  /** What a client that speaks nothing but TLS sends. */
  readonly request: Buffer
  /** Found in what comes back, read as latin1. */
  readonly answer: string
  readonly alpn?: 'h2'
  /** What is spoken in the clear until TLS begins. */
  readonly startTls?: 'postgres'
}

/** The same forwards and backwards: `openssl s_server -rev` answers in reverse, others echo. */
export const word = 'racecar'

export const line: Conversation = { request: Buffer.from(`${word}\n`), answer: word }

export function http(path: string, answer: string): Conversation {
  return { request: Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`), answer }
}

export const redis: Conversation = { request: Buffer.from(`ECHO ${word}\r\n`), answer: `$7\r\n${word}` }

/** The startup message, version 3.0, and a simple query (PostgreSQL's message formats). */
export const postgres: Conversation = {
  request: Buffer.concat([
    withLength(Buffer.from('\0\x03\0\0user\0postgres\0database\0postgres\0\0')),
    Buffer.from('Q'),
    withLength(Buffer.from(`select '${word}'\0`)),
  ]),
  answer: word,
  startTls: 'postgres',
}

/** The preface of an HTTP/2 client and empty settings, which the server acknowledges (RFC 9113 sections 3.4 and 6.5). */
export const http2: Conversation = {
  request: Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1'),
  answer: '\0\0\0\x04\x01\0\0\0\0',
  alpn: 'h2',
}

/** The length counts itself. */
function withLength(message: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32BE(message.length + 4)
  return Buffer.concat([length, message])
}

/** What stands behind servers that only end TLS. */
export function makeBackend(): Server {
  return createServer((_request, response) => void response.end(word))
}
