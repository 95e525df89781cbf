import type { Finding } from './findings.ts'

/** Every way certgen fails on purpose. Anything else that is thrown is a bug or an error of the system. */
export type ErrorCode =
  /** A flag, argument or value that makes no sense. */
  | 'usage'
  /** The configuration has a mistake; the message begins with `FILE:LINE:COLUMN: `. */
  | 'configuration'
  /** A key, certificate or bundle cannot be used; `findings` say why. */
  | 'unusable'
  /** A file or directory that was named does not exist or cannot be read. */
  | 'unreadable'
  /** The authority on disk is expired, incomplete or damaged. */
  | 'authority-unusable'
  /** The rotation would break a handshake; nothing was written. */
  | 'refused'
  /** A write failed; every directory holds a complete generation. */
  | 'write-failed'
  /** Another run has changed what this one read; what is there is whole, and is looked at again. */
  | 'conflict'
  /** Another certgen holds the lock. */
  | 'lock-held'

export interface CertgenErrorOptions {
  /** What the reader can do about it, a sentence each, in the style of the message. */
  readonly hints?: readonly string[]
  readonly findings?: readonly Finding[]
  readonly cause?: unknown
}

/** The one error that certgen throws on purpose. Messages are lower case and have no full stop. */
export class CertgenError extends Error {
  readonly code: ErrorCode
  readonly hints: readonly string[]
  readonly findings: readonly Finding[]

  constructor(code: ErrorCode, message: string, options: CertgenErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CertgenError'
    this.code = code
    this.hints = options.hints ?? []
    this.findings = options.findings ?? []
  }
}
