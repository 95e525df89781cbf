import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { output } from '../program.ts'

/** Certificates of the openssl program, which makes what certgen never would. */

const day = 86_400_000
export const now = new Date(Math.floor(Date.now() / 1000) * 1000)
export const after = (days: number): Date => new Date(now.getTime() + days * day)

/** A certificate with its private key, both PEM. */
export interface Entity {
  readonly certificate: string
  readonly key: string
}

export interface Issuance {
  readonly subject: string
  /** null: self-signed. */
  readonly issuer: Entity | null
  readonly extensions: readonly string[]
  /** What `openssl genpkey` takes; or the entity whose key it has. */
  readonly key?: readonly string[] | Entity
  readonly from?: Date
  readonly to?: Date
  readonly hash?: string
  readonly signature?: readonly string[]
}

export const p256 = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']
export const curve = (name: string): string[] => ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${name}`]
export const rsa = (bits: number): string[] => ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${bits}`]

export const keyIds = ['subjectKeyIdentifier = hash', 'authorityKeyIdentifier = keyid']
const signs = 'keyUsage = critical, keyCertSign, cRLSign'
export const caExtensions = (constraint = 'CA:TRUE', usage = signs): string[] =>
  [`basicConstraints = critical, ${constraint}`, usage, ...keyIds].filter(Boolean)
export const sans =
  'DNS:localhost, DNS:*.example.org, IP:10.0.0.1, IP:2001:db8::1, URI:spiffe://acme/a, email:ops@example.org'
export const leafExtensions = (purposes = 'serverAuth, clientAuth', usage = 'digitalSignature'): string[] => [
  'basicConstraints = critical, CA:FALSE',
  `keyUsage = critical, ${usage}`,
  `extendedKeyUsage = ${purposes}`,
  `subjectAltName = ${sans}`,
  ...keyIds,
]

export function openssl(...args: string[]): string {
  return output('openssl', ...args)
}

export function lazy<T>(make: () => T): () => T {
  let made: { value: T } | null = null
  return () => (made ??= { value: make() }).value
}

/** 20260131235959Z */
const utc = (date: Date): string => date.toISOString().replace(/[-:T]|\.\d+/g, '')

export class OpensslIssuer {
  readonly #directory: string
  readonly #configuration: () => string
  #files = 0

  constructor(directory: string) {
    this.#directory = directory
    this.#configuration = lazy(() => this.#configure())
  }

  /** A file of its own with this in it. */
  write(text: string | Buffer): string {
    const path = this.#newPath()
    writeFileSync(path, text)
    return path
  }

  /** `openssl ca`, because of all releases' commands only it takes the two instants of a validity. */
  issue({ subject, issuer, extensions, key = p256, ...rest }: Issuance): Entity {
    const { from = after(-1), to = after(90), hash = 'default', signature = [] } = rest
    const ownKey = 'key' in key ? key.key : openssl('genpkey', ...key)
    const keyFile = this.write(ownKey)
    const request = this.write(this.request(keyFile, subject))
    const parent = issuer
      ? ['-keyfile', this.write(issuer.key), '-cert', this.write(issuer.certificate)]
      : ['-selfsign', '-keyfile', keyFile]
    const out = this.#newPath()
    const extensionFile = this.write(extensions.join('\n') + '\n')
    openssl(
      ...['ca', '-batch', '-notext', '-config', this.#configuration(), '-in', request, '-out', out],
      ...['-startdate', utc(from), '-enddate', utc(to), '-md', hash, '-extfile', extensionFile],
      ...parent,
      ...signature.flatMap((option) => ['-sigopt', option]),
    )
    return { certificate: readFileSync(out, 'utf8'), key: ownKey }
  }

  /** A certificate request, PEM. */
  request(keyFile: string, subject: string): string {
    return openssl('req', '-new', '-config', this.#configuration(), '-key', keyFile, '-subj', `/CN=${subject}`)
  }

  root(extra: Partial<Issuance> = {}): Entity {
    const validity = { from: after(-365), to: after(3650) }
    return this.issue({ subject: 'Root', issuer: null, extensions: caExtensions(), ...validity, ...extra })
  }

  intermediate(issuer: Entity, extra: Partial<Issuance> = {}): Entity {
    const validity = { from: after(-30), to: after(1825) }
    return this.issue({ subject: 'Intermediate', issuer, extensions: caExtensions(), ...validity, ...extra })
  }

  leaf(issuer: Entity, extra: Partial<Issuance> = {}): Entity {
    return this.issue({ subject: 'leaf', issuer, extensions: leafExtensions(), ...extra })
  }

  #newPath(): string {
    return join(this.#directory, `file-${this.#files++}`)
  }

  #configure(): string {
    const database = this.write('')
    writeFileSync(`${database}.attr`, 'unique_subject = no\n')
    return this.write(`
[req]
distinguished_name = name
[name]
[ca]
default_ca = this
[this]
database = ${database}
new_certs_dir = ${this.#directory}
policy = policy
rand_serial = yes
[policy]
commonName = supplied
`)
  }
}
