import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createPrivateKey } from 'node:crypto'
import type { FindingCode } from '../../src/findings.ts'
import type { Authority } from '../../src/pki/authority.ts'
import { encodeKey } from '../../src/pki/key.ts'
import type { EncodedSet } from '../../src/store/target-store.ts'
import { output } from '../program.ts'
import type { Issuer } from './issuer.ts'

/** A set that must not be used, and a finding that says why. */
export interface DamagedSet {
  readonly name: string
  readonly code: FindingCode
  readonly set: EncodedSet
}

const day = 24 * 60 * 60 * 1000

/** At least one set for every finding that makes one unusable for a server. */
export async function damagedSets(issuer: Issuer, authority: Authority, scratch: string): Promise<DamagedSet[]> {
  const good = await issuer.set(authority)
  const stranger = await issuer.set(await issuer.authority())
  const past = new Date(Date.now() - 100 * day)
  const old = await issuer.authority('5y', past)
  const passphrase = 'a passphrase that nobody gave'
  return [
    { name: 'a key of another pair', code: 'key-mismatch', set: { ...good, key: stranger.key } },
    { name: 'an expired leaf', code: 'expired', set: await issuer.set(old, { now: past, lifetime: '1d' }) },
    {
      name: 'a leaf of tomorrow',
      code: 'not-yet-valid',
      set: await issuer.set(authority, { now: new Date(Date.now() + day) }),
    },
    { name: 'a leaf of a CA that is not in the bundle', code: 'chain-incomplete', set: { ...good, ca: stranger.ca } },
    { name: 'a leaf for clients', code: 'usage', set: await issuer.set(authority, { usages: ['client'] }) },
    { name: 'a chain in disorder', code: 'order', set: { ...good, cert: Buffer.concat([good.cert, stranger.cert]) } },
    {
      name: 'an encrypted key',
      code: 'key-encrypted',
      set: { ...good, key: Buffer.from(encodeKey(createPrivateKey(good.key), passphrase)) },
    },
    { name: 'no key', code: 'pem-empty', set: { ...good, key: Buffer.alloc(0) } },
    { name: 'no certificate', code: 'pem-empty', set: { ...good, cert: Buffer.alloc(0) } },
    { name: 'an emptied bundle', code: 'pem-empty', set: { ...good, ca: Buffer.alloc(0) } },
    { name: 'a bundle of blanks', code: 'pem-empty', set: { ...good, ca: Buffer.from(' \n') } },
    {
      name: 'a bundle cut off in its second block',
      code: 'pem-damaged',
      set: { ...good, ca: Buffer.concat([good.ca, stranger.ca.subarray(0, 200)]) },
    },
    { name: 'DER in the place of PEM', code: 'pem-damaged', set: { ...good, cert: authority.certificate.der } },
    ...madeByOpenssl(scratch),
    ...cutOff(good),
  ]
}

/** Files that end at all sorts of places, as a reader sees them that comes while they are written. */
function cutOff(good: EncodedSet): DamagedSet[] {
  return (['cert', 'key', 'ca'] as const).flatMap((file) => {
    const length = good[file].length
    return Array.from({ length: 27 }, (_, index): DamagedSet => {
      const end = Math.floor(((index + 1) * (length - 30)) / 27)
      const set = { ...good, [file]: good[file].subarray(0, end) }
      return { name: `${file} cut off after ${end} octets`, code: 'pem-damaged', set }
    })
  })
}

/** What certgen does not issue. */
function madeByOpenssl(scratch: string): DamagedSet[] {
  const path = (name: string): string => join(scratch, name)
  const openssl = (...args: string[]): string => output('openssl', ...args)
  const read = (name: string): Buffer => readFileSync(path(name))
  const selfSigned = (name: string, key: string[], extra: string[], subject = name): void => {
    openssl('genpkey', ...key, '-out', path(`${name}.key`))
    const out = ['-key', path(`${name}.key`), '-out', path(`${name}.crt`), '-subj', `/CN=${subject}`]
    openssl('req', '-x509', '-days', '9', ...out, ...extra)
  }
  const signed = (name: string, ca: string, extensions: string): void => {
    openssl('genpkey', ...p256, '-out', path(`${name}.key`))
    openssl('req', '-new', '-key', path(`${name}.key`), '-subj', `/CN=${name}`, '-out', path(`${name}.csr`))
    writeFileSync(path(`${name}.cnf`), extensions)
    const by = ['-CA', path(`${ca}.crt`), '-CAkey', path(`${ca}.key`), '-extfile', path(`${name}.cnf`)]
    openssl('x509', '-req', '-days', '9', '-in', path(`${name}.csr`), ...by, '-out', path(`${name}.crt`))
  }
  const set = (leaf: string, ca: string, between: string[] = []): EncodedSet => ({
    cert: Buffer.concat([leaf, ...between].map((name) => read(`${name}.crt`))),
    key: read(`${leaf}.key`),
    ca: read(`${ca}.crt`),
  })
  const p256 = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']
  const noCa = ['-addext', 'basicConstraints=critical,CA:FALSE']

  selfSigned('secp256k1', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1'], noCa)
  selfSigned('rsa-1024', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'], noCa)
  selfSigned('sha1', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], ['-sha1', ...noCa])
  selfSigned('root', p256, [], 'namesake')
  selfSigned('namesake', p256, [], 'namesake')
  selfSigned('no-ca', p256, noCa)
  selfSigned('short', p256, ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0'])
  signed('of-root', 'root', 'subjectAltName=DNS:localhost\n')
  signed('of-no-ca', 'no-ca', 'subjectAltName=DNS:localhost\n')
  signed('between', 'short', 'basicConstraints=critical,CA:TRUE\n')
  signed('of-between', 'between', 'subjectAltName=DNS:localhost\n')
  signed('unknown', 'root', '1.2.3.4.5=critical,ASN1:NULL\n')
  return [
    { name: 'a curve that peers do not know', code: 'key-type', set: set('secp256k1', 'secp256k1') },
    { name: 'an RSA key of 1024 bits', code: 'key-weak', set: set('rsa-1024', 'rsa-1024') },
    { name: 'a signature with SHA-1', code: 'signature-weak', set: set('sha1', 'sha1') },
    { name: 'a leaf of a namesake', code: 'chain-signature', set: set('of-root', 'namesake') },
    { name: 'a leaf that a leaf signed', code: 'not-a-ca', set: set('of-no-ca', 'no-ca') },
    { name: 'a path that is too long', code: 'pathlen', set: set('of-between', 'short', ['between']) },
    { name: 'an extension that OpenSSL refuses', code: 'handshake', set: set('unknown', 'root') },
  ]
}
