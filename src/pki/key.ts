import { createPrivateKey, createPublicKey, generateKeyPair, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { CertgenError } from '../errors.ts'
import type { Finding } from '../findings.ts'
import { derTag, readElement, readElements, readObjectIdentifier } from './der.ts'
import type { DerElement } from './der.ts'
import { encodeElement } from './der-writer.ts'
import { readPem } from './pem.ts'

/** The key types that certgen generates (contract: `--key`). */
export const keyTypes = ['ecdsa-p256', 'ecdsa-p384', 'ed25519', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const
export type KeyType = (typeof keyTypes)[number]
export const defaultKeyType: KeyType = 'ecdsa-p256'

/** Throws CertgenError `usage` unless `text` names a key type. */
export function parseKeyType(text: string): KeyType {
  const type = keyTypes.find((candidate) => candidate === text.toLowerCase())
  if (type) return type
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a key type`, {
    hints: [`choose one of ${keyTypes.join(', ')}`],
  })
}

const generate = promisify(generateKeyPair) as (type: string, options: object) => Promise<{ privateKey: KeyObject }>

/**
 * Generates a private key with OpenSSL, on the thread pool. A KeyObject shows nothing of the key when it is printed,
 * logged or turned into JSON.
 */
export async function generateKey(type: KeyType): Promise<KeyObject> {
  switch (type) {
    case 'ecdsa-p256':
      return (await generate('ec', { namedCurve: 'P-256' })).privateKey
    case 'ecdsa-p384':
      return (await generate('ec', { namedCurve: 'P-384' })).privateKey
    case 'ed25519':
      return (await generate('ed25519', {})).privateKey
    case 'rsa-2048':
    case 'rsa-3072':
    case 'rsa-4096':
      return (await generate('rsa', { modulusLength: Number(type.slice(4)) })).privateKey
  }
}

/** PKCS#8 PEM; encrypted (PBES2, AES-256-CBC) when a passphrase is given. */
export function encodeKey(key: KeyObject, passphrase?: string): string {
  return key
    .export({
      type: 'pkcs8',
      format: 'pem',
      ...(passphrase === undefined ? {} : { cipher: 'aes-256-cbc', passphrase }),
    })
    .toString()
}

/**
 * Whether the halves of a private key belong together. Its file holds both, and OpenSSL compares only the public one with
 * a certificate: what is signed with such a key, nobody can verify. Takes as long as a signature.
 */
export function isConsistent(key: KeyObject): boolean {
  const text = Buffer.from('certgen')
  try {
    return verify(null, text, createPublicKey(key), sign(null, text, key))
  } catch {
    return false // OpenSSL throws for a number beyond the key's, and for keys that do not sign at all.
  }
}

/** A key's kind as people write it: `ecdsa-p256`, `rsa-1024`, `ed25519`, `dsa`, `ec-secp256k1`; `unknown` of none. */
export function describeKey(key: KeyObject | null): string {
  const type = key?.asymmetricKeyType
  const details = key?.asymmetricKeyDetails ?? {}
  switch (type) {
    case 'ec':
      return curveNames[details.namedCurve ?? ''] ?? `ec-${details.namedCurve ?? 'unknown'}`
    case 'rsa':
    case 'rsa-pss':
      return `${type}-${details.modulusLength ?? 0}`
    case undefined:
      return 'unknown'
    default:
      return type
  }
}

const curveNames: Readonly<Record<string, string>> = {
  prime256v1: 'ecdsa-p256',
  secp384r1: 'ecdsa-p384',
  secp521r1: 'ecdsa-p521',
}

/**
 * The type certgen would generate in the place of a key of this kind (describeKey) that somebody else made: the same, or
 * the nearest one above.
 */
export function closestKeyType(kind: string): KeyType {
  const same = keyTypes.find((type) => type === kind)
  if (same) return same
  const [, bits] = /^rsa(?:-pss)?-(\d+)$/.exec(kind) ?? []
  if (bits === undefined) return kind === 'ecdsa-p521' ? 'ecdsa-p384' : defaultKeyType
  if (Number(bits) <= 2048) return 'rsa-2048'
  return Number(bits) <= 3072 ? 'rsa-3072' : 'rsa-4096'
}

/** Findings on a key's type and strength: RSA under 2048 bits, DSA, unknown curves and what cannot be read are errors. */
export function judgeKey(key: KeyObject | null, path: string): Finding[] {
  const kind = describeKey(key)
  const bits = key?.asymmetricKeyDetails?.modulusLength
  const type = key?.asymmetricKeyType
  if (type === 'rsa' || type === 'rsa-pss') {
    if (bits !== undefined && bits >= 2048) return []
    return [{ code: 'key-weak', severity: 'error', path, facts: { key: kind, bits: bits ?? 0 } }]
  }
  const known = type === 'ed25519' || type === 'ed448' || kind.startsWith('ecdsa-')
  return known ? [] : [{ code: 'key-type', severity: 'error', path, facts: { key: kind } }]
}

const keyLabels = new Set([
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'EC PRIVATE KEY',
  'RSA PRIVATE KEY',
  'DSA PRIVATE KEY',
])

/** The `reason` of a `key-encrypted` finding where no passphrase was given, and so none was tried. */
export const noPassphrase = 'no passphrase'

/**
 * Reads the one private key of a PEM file: PKCS#8, encrypted PKCS#8, SEC1 or PKCS#1. Findings say why there is none;
 * neither they nor an error ever hold key material.
 */
export function readKey(
  data: string | Uint8Array,
  path: string,
  passphrase?: string,
): { key: KeyObject | null; findings: Finding[] } {
  const { blocks, damage } = readPem(data)
  const fail = (code: Finding['code'], facts: Finding['facts']): { key: null; findings: Finding[] } => ({
    key: null,
    findings: [{ code, severity: 'error', path, facts }],
  })
  const damaged = damage[0]
  if (damaged) return fail('pem-damaged', { block: damaged.number, line: damaged.line, reason: damaged.reason })
  // `openssl ecparam -genkey` writes the curve as a block of its own before the key.
  const candidates = blocks.filter((block) => block.label !== 'EC PARAMETERS')
  const stray = candidates.find((block) => !keyLabels.has(block.label)) ?? candidates[1]
  if (stray) {
    const { number, line, label } = stray
    return fail('pem-damaged', { block: number, line, reason: 'unexpected-label', label })
  }
  const [block] = candidates
  if (!block) return fail('pem-empty', {})
  const encrypted = block.label === 'ENCRYPTED PRIVATE KEY' || block.headers.has('DEK-Info')
  if (encrypted && passphrase === undefined) return fail('key-encrypted', { reason: noPassphrase })
  const rounds = block.label === 'ENCRYPTED PRIVATE KEY' ? derivationRounds(block.der) : 0
  if (rounds === null) return fail('pem-damaged', { block: block.number, line: block.line, reason: 'not-a-key' })
  if (rounds > mostRounds) {
    return fail('key-encrypted', { reason: `its passphrase takes more than ${mostRounds} rounds to try` })
  }
  try {
    const sec1 = block.label === 'PRIVATE KEY' ? sec1OfPkcs8(block.der) : null
    const key = sec1
      ? createPrivateKey({ key: sec1, format: 'der', type: 'sec1' })
      : createPrivateKey({ key: block.text, format: 'pem', ...(passphrase === undefined ? {} : { passphrase }) })
    // A number that is too large for its curve is read, but cannot be written again.
    key.export({ type: 'pkcs8', format: 'der' })
    return { key, findings: [] }
  } catch {
    // OpenSSL's own error is left out on purpose: what it says of a key belongs in no log.
    if (encrypted) return fail('key-encrypted', { reason: 'wrong passphrase' })
    return fail('pem-damaged', { block: block.number, line: block.line, reason: 'not-a-key' })
  }
}

const ecPublicKey = '1.2.840.10045.2.1'

/**
 * The ECPrivateKey (RFC 5915) within a PKCS#8 key (RFC 5958), its curve added to it: OpenSSL 3 reads it in a third of the
 * time, and a fleet has a key a leaf. null for any other key, and for any other shape than the one that tools write.
 */
function sec1OfPkcs8(der: Buffer): Buffer | null {
  try {
    const { sequence, integer, octetString, objectIdentifier } = derTag
    const [version, algorithm, octets] = membersOf(der, [integer, sequence, octetString])
    const [id, curve] = membersOf(algorithm?.raw, [objectIdentifier, objectIdentifier])
    const [innerVersion, number, publicKey] = membersOf(octets?.content, [integer, octetString, 0xa1])
    if (version?.raw.equals(pkcs8Version) !== true || !id || readObjectIdentifier(id.content) !== ecPublicKey)
      return null
    if (!curve || !innerVersion || !number || !publicKey) return null
    const parameters = encodeElement(0xa0, curve.raw)
    return encodeElement(sequence, innerVersion.raw, number.raw, parameters, publicKey.raw)
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}

const pkcs8Version = Buffer.from([derTag.integer, 1, 0])

/** The elements of the one SEQUENCE that `der` is, if they have exactly these tags; else none. */
function membersOf(der: Buffer | undefined, tags: readonly number[]): DerElement[] {
  if (!der) return []
  const { tag, raw, content } = readElement(der)
  if (tag !== derTag.sequence || raw.length !== der.length) return []
  const members = readElements(content)
  return String(members.map((member) => member.tag)) === String(tags) ? members : []
}

/** Seconds on any machine. A file says itself how long its passphrase takes to try, and could say for ever. */
const mostRounds = 2_000_000

const scrypt = '1.3.6.1.4.1.11591.4.11'

/**
 * How many rounds of hashing it takes to try a passphrase on an EncryptedPrivateKeyInfo (RFC 5208 section 6): by PBKDF2
 * (RFC 8018 appendix A.2), by the older schemes of PKCS#5 and PKCS#12, whose parameters begin alike, or by scrypt
 * (RFC 7914 section 7). null when that cannot be read.
 */
function derivationRounds(der: Buffer): number | null {
  try {
    const [algorithm] = readElements(readElement(der).content)
    const [, parameters] = readElements(algorithm?.content ?? Buffer.alloc(0))
    const [first, second] = readElements(parameters?.content ?? Buffer.alloc(0))
    if (first?.tag === derTag.octetString) return readInteger(second?.content)
    const [id, derivation] = readElements(first?.content ?? Buffer.alloc(0))
    const [, ...numbers] = readElements(derivation?.content ?? Buffer.alloc(0)).map(({ content }) => content)
    if (!id || readObjectIdentifier(id.content) !== scrypt) return readInteger(numbers[0])
    return numbers.slice(0, 3).reduce((product, number) => product * readInteger(number), 1)
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}

/** Of a positive INTEGER. Throws RangeError when there is none. */
function readInteger(octets: Buffer | undefined): number {
  if (!octets || octets.length === 0) throw new RangeError('not a number')
  return Number(`0x${octets.toString('hex')}`)
}
